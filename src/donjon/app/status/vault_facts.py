"""What a vault, or a copy of one, shows now: once for all workloads of a plan. Needs no key.

Everything is asked of the store. Whose point is whose is sealed; that a key tells, or the catalog.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import Final

from donjon.app.catalog.opening import Places
from donjon.app.keys.members import address_of
from donjon.app.verdicts.marks import Verdicts, look_up, warn_of_doubts
from donjon.app.wiring import Workspace
from donjon.core.clock import SECONDS_PER_DAY
from donjon.core.errors import DonjonError, IntegrityFailure, KeyNotAvailable, VaultNotFound
from donjon.core.events import Progress, never_stop
from donjon.custody.extension import default_epoch_s
from donjon.custody.inventory import Inventory, take_inventory
from donjon.format import names
from donjon.format.objects import ObjectKind
from donjon.keys.base import AWS_KMS, GCP_KMS, Recipient
from donjon.plan.copies import Key, LockMode
from donjon.repository.checkpoints import newest_trusted
from donjon.repository.epochs import parse_epoch
from donjon.repository.evidence import SignedEvidence, Standing, read_evidence
from donjon.repository.fetch import fetch_object
from donjon.repository.parallel import in_order
from donjon.repository.points import Point, list_points, open_point
from donjon.repository.vault import Vault
from donjon.stores.base import LockEnforcement, ObjectInfo

#: A store that does not answer for so long is not waited for.
PATIENCE_S: Final = 3.0
#: The newest evidence that is read; there is a piece for each verification.
_READ_EVIDENCE: Final = 200
_THREADS: Final = 16
_MODES: Final = {
    LockEnforcement.PROVIDER: LockMode.COMPLIANCE,
    LockEnforcement.GOVERNANCE: LockMode.GOVERNANCE,
    LockEnforcement.KERNEL: LockMode.GOVERNANCE,
    LockEnforcement.ADVISORY: LockMode.ADVISORY,
    LockEnforcement.NONE: LockMode.NONE,
}


@dataclass(slots=True)
class VaultLook:
    """What was seen of a vault at ``address``. Times are in Unix seconds by its store.

    ``unreachable`` says why it could not be looked at, ``gone`` that there is none. ``workloads`` are those
    of the points that a key at hand opens, by id; ``verdicts`` tell which points are suspect.
    ``checkpoint_at`` and ``epoch_at`` are when a custodian was last seen at work, 0 for never. ``alarms`` are
    what contradicts what was signed or seen before.
    """

    name: str
    address: str
    vault: Vault | None = None
    unreachable: str = ""
    gone: str = ""
    hint: str = ""
    now: int = 0
    points: list[Point] = field(default_factory=list)
    inventory: Inventory | None = None
    workloads: dict[bytes, str] = field(default_factory=dict)
    mode: LockMode = LockMode.NONE
    checkpoint_at: int = 0
    epoch_at: int = 0
    evidence: list[SignedEvidence] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    verdicts: Verdicts | None = None

    def kept_s(self, *, is_copy: bool) -> int:
        """What a custodian who works daily leaves of a lock, if one was seen at work here within an epoch.

        A copy has the checkpoints of what it is a copy of, but no epoch objects but its own.
        """
        lock_s = self.vault.object.lock_s if self.vault is not None else 0
        epoch_s = default_epoch_s(lock_s)
        last = self.epoch_at if is_copy else max(self.epoch_at, self.checkpoint_at)
        is_at_work = last >= self.now - epoch_s - SECONDS_PER_DAY
        return max(0, lock_s - epoch_s - SECONDS_PER_DAY) if is_at_work else 0


def look_at_vault(places: Places, name: str, progress: Progress) -> VaultLook:
    """Look at a vault of a plan. What goes wrong is in what comes back, never raised."""
    look = VaultLook(name, places.plan.vaults[name].url)
    try:
        look.address = places.url(name)
    except DonjonError as error:
        look.unreachable, look.hint = error.message, error.hint
        return look
    settings = replace(places.settings, vault=look.address)
    return look_into(look, Workspace(settings, tell=places.tell, patience_s=PATIENCE_S), progress)


def look_into(look: VaultLook, workspace: Workspace, progress: Progress) -> VaultLook:
    """Look at the vault of a workspace. Where that fails half-way, all counts as not seen."""
    try:
        _look(workspace, look, progress)
    except VaultNotFound as error:
        look.gone, look.hint = error.message, error.hint
    except DonjonError as error:
        look.unreachable, look.hint = error.message, error.hint
    return look


def _look(workspace: Workspace, look: VaultLook, progress: Progress) -> None:
    vault = workspace.open()
    if workspace.has_key:
        with contextlib.suppress(KeyNotAvailable):  # it is for another vault of the plan
            workspace.unlock(vault)
    damaged: list[IntegrityFailure] = []
    look.points = list_points(vault, damaged)  # before the store is listed: a point may come between
    look.inventory = take_inventory(vault, workspace.cache(vault), progress)
    damaged += look.inventory.damaged
    look.now = vault.store.now()
    look.mode = _MODES[vault.store.lock_enforcement] if vault.object.lock_s else LockMode.NONE
    look.checkpoint_at = _checkpoint_at(vault)
    look.epoch_at = _epoch_at(vault, look.inventory)
    evidence = _evidence(vault, look.inventory)
    look.evidence = [one for one in evidence if one.standing is Standing.COUNTS]
    look.verdicts = look_up(workspace, vault, evidence)
    warn_of_doubts(workspace, look.verdicts)
    if vault.openers:
        look.workloads = _opened(vault, look.points)
    look.alarms = [error.message for error in damaged]
    look.vault = vault  # now that all is known


def _opened(vault: Vault, points: list[Point]) -> dict[bytes, str]:
    found = {}
    for point in points:
        with contextlib.suppress(DonjonError):  # sealed to others only
            found[point.point_id] = open_point(vault, point).body.workload
    return found


def _checkpoint_at(vault: Vault) -> int:
    """When the newest checkpoint came that counts, 0 if there is none."""
    with contextlib.suppress(DonjonError):
        newest = newest_trusted(vault)
        return 0 if newest is None else newest.stored_at or 0
    return 0


def _epoch_at(vault: Vault, inventory: Inventory) -> int:
    """When the newest epoch object came, of a custodian who is not revoked; 0 if there is none."""
    for info in sorted(inventory.under(names.EPOCHS), key=lambda info: info.name)[-1:]:
        with contextlib.suppress(DonjonError):
            data = fetch_object(vault.store, info.name, ObjectKind.EPOCH)
            epoch = parse_epoch(vault, data, info.name)
            if vault.keyring.custodians[epoch.custodian].revoked_at is None:
                return info.stored_at
    return 0


def _evidence(vault: Vault, inventory: Inventory) -> list[SignedEvidence]:
    """The newest evidence, oldest first by the time at which it was signed."""
    newest = sorted(inventory.under(names.EVIDENCE), key=lambda info: info.stored_at)[-_READ_EVIDENCE:]

    def read(info: ObjectInfo) -> SignedEvidence | None:
        with contextlib.suppress(DonjonError):  # damaged, or gone since: it proves nothing
            return read_evidence(vault, info)
        return None

    found = filter(None, in_order(_THREADS, read, newest, never_stop, "donjon-evidence"))
    return sorted(found, key=lambda one: (one.signed_at, one.digest))


# -- keys ------------------------------------------------------------------------------------------


def keys_of(vault: Vault, inventory: Inventory, sessions: list[tuple[bytes, int]]) -> tuple[Key, ...]:
    """The keys that open all of these sessions, each alone.

    Raises ``IntegrityFailure`` for a session that is missing or damaged.
    """
    there = {info.name for info in inventory.under(names.SEALS)}
    members = dict(vault.keyring.members)
    for writer, number in sessions:
        sealed = {who for who, _ in vault.read_session(writer, number).seals}
        for who in list(members):
            later = names.seal(who, writer, number)
            if who not in sealed and (later not in there or vault.later_seal(who, writer, number) is None):
                del members[who]
    return tuple(key_of(member.recipient) for member in members.values())


def key_of(recipient: Recipient) -> Key:
    """A recipient, and who can take its key away: the account of a key service, or whoever holds it."""
    short = recipient.recipient_id.hex()[:12]
    address = address_of(recipient)
    if address is None:
        name = f"{recipient.kind} {short}"
        return Key(name, name)
    rest = address.uri.partition(":")[2]
    if recipient.kind == AWS_KMS:  # arn:aws:kms:REGION:ACCOUNT:key/ID
        return Key(address.uri, f"aws:{rest.split(':')[4]}")
    if recipient.kind == GCP_KMS:  # projects/P/...
        return Key(address.uri, f"gcp:{rest.split('/')[1]}")
    return Key(address.uri, f"{recipient.kind}:{rest.split('/')[2] if '://' in rest else rest}")
