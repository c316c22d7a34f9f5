"""Checkpoints as every interface offers them: signing and publishing, and looking for them elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from donjon.app.pins import PointPins
from donjon.app.signers.custodians import open_as_custodian
from donjon.app.stores import open_store
from donjon.app.wiring import Workspace
from donjon.core.clock import SECONDS_PER_DAY
from donjon.core.errors import IntegrityFailure, ObjectExists, ObjectNotFound, UsageError
from donjon.format import names
from donjon.format.objects import MAX_BYTES, ObjectKind
from donjon.keys.private import create_private
from donjon.repository.attest import sign_checkpoint
from donjon.repository.check import Finding, Structure
from donjon.repository.checkpoints import Signed, is_revoked, parse_checkpoint
from donjon.repository.fetch import fetch_object
from donjon.repository.vault import Vault, nothing_seen
from donjon.repository.witness import FORKED, ROLLED_BACK, judge
from donjon.stores.base import LockEnforcement, ObjectStore
from donjon.stores.first_versions import first_of_each

_LIMIT = MAX_BYTES[ObjectKind.CHECKPOINT]
#: Who fills a witness with rubbish must not keep the good one from being found, nor make us read all day.
_TRIED = 10


@dataclass(slots=True)
class Published:
    """A new checkpoint, and where it is. ``removed`` are the ids of points that it leaves out."""

    signed: Signed
    points: int
    places: list[str]
    removed: list[str] = field(default_factory=list)


def make_checkpoint(
    workspace: Workspace, credential_file: Path, places: Sequence[str], *, accept_removed: bool
) -> Published:
    """Sign the state of all manifests, and publish it in the vault and in these places.

    Needs no key that opens backups. A place is the address of a store, a folder that exists, or a file
    that does not. Raises ``KeyNotAvailable`` for a credential that the vault does not accept.
    """
    for place in places:
        _check_place(place)
    vault, credential = open_as_custodian(workspace, credential_file)
    pins = PointPins(workspace.home.folder, vault)
    seen = pins.read()
    if accept_removed:  # the checkpoint before tells what may be gone; the pins do not know of locks
        vault.watch = nothing_seen
    signed, removed = sign_checkpoint(
        vault, credential, (seen.checkpoint, seen.digest), accept_removed=accept_removed
    )
    pins.keep((), signed)
    workspace.home.keep_pin(vault.keyring)
    published = [f"{vault.store.url}: {signed.where}"]
    published += [_publish(vault, signed, place) for place in places]
    return Published(signed, len(signed.times()), published, removed)


# -- places ----------------------------------------------------------------------------------------


def _is_store(place: str) -> bool:
    return "://" in place or Path(place).is_dir()


def _check_place(place: str) -> None:
    if not _is_store(place) and Path(place).exists():
        msg = f"{place}: exists, and a checkpoint never overwrites anything"
        raise UsageError(msg, hint="Name a new file, a folder that exists, or the address of a store.")


def _publish(vault: Vault, signed: Signed, place: str) -> str:
    """Put the same bytes into a place; where they are then. Raises ``IntegrityFailure`` for a fork."""
    if not _is_store(place):
        create_private(Path(place), signed.data)
        return place
    with open_store(place) as store:
        name = names.witness(vault.vault_id, signed.number)
        try:
            store.put(name, signed.data, retain_until=_lock_end(vault, store))
        except ObjectExists:
            if fetch_object(store, name, ObjectKind.CHECKPOINT) != signed.data:
                msg = f"{store.url}: {name}: holds another checkpoint with this number"
                hint = "The vault was forked or rolled back, or this is the witness of a copy of it."
                raise IntegrityFailure(msg, hint=hint) from None
        return f"{store.url}: {name}"


def _lock_end(vault: Vault, store: ObjectStore) -> int | None:
    """As long a lock as in the vault, where the witness can hold one."""
    if not vault.object.lock_s or store.lock_enforcement is LockEnforcement.NONE:
        return None
    return -(-(store.now() + vault.object.lock_s) // SECONDS_PER_DAY) * SECONDS_PER_DAY


# -- looking ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Witnesses:
    """The checkpoints found elsewhere, and what is wrong with the places they should be in."""

    found: list[Signed] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def read_witnesses(vault: Vault, places: Sequence[str]) -> Witnesses:
    """The newest checkpoint of this vault in each place. Raises what the stores raise."""
    witnesses = Witnesses()
    for place in places:
        before = len(witnesses.found)
        for where, data in _candidates(vault, place):
            try:
                witnesses.found.append(parse_checkpoint(vault, data, where))
                break
            except IntegrityFailure as error:
                witnesses.findings.append(Finding("damaged", where, error.message, (), error.hint))
        if len(witnesses.found) == before:
            what = "holds no checkpoint of this vault that can be believed"
            remedy = "Publish one there: `donjon custody checkpoint --to PLACE`."
            witnesses.findings.append(Finding("missing", place, what, (), remedy))
    return witnesses


def _candidates(vault: Vault, place: str) -> list[tuple[str, bytes]]:
    """Where checkpoints may be in this place, newest first, with their bytes."""
    if not _is_store(place):
        return [(place, _read_file(Path(place)))]
    found: list[tuple[str, bytes]] = []
    with open_store(place) as store:
        for folder in (f"{names.WITNESS}{vault.vault_id.hex()}/", names.CHECKPOINTS):
            listed = [info.name for info in first_of_each(store.list(folder))]
            for name in reversed(listed[-_TRIED:]):
                try:
                    found.append((f"{store.url}: {name}", fetch_object(store, name, ObjectKind.CHECKPOINT)))
                except ObjectNotFound:
                    continue
            if found:  # else the place may be a copy of this vault, with checkpoints of its own
                break
    return found


def _read_file(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_LIMIT + 1)
    except OSError as error:
        msg = f"{file}: cannot be read: {error.strerror}"
        raise UsageError(msg, hint="Name a checkpoint, a folder, or the address of a store.") from error


def judge_vault(workspace: Workspace, vault: Vault, witnesses: Witnesses, seen: Structure) -> list[Finding]:
    """What contradicts the vault's own checkpoints, those found elsewhere, and what this host saw before."""
    trusted = [signed for signed in seen.checkpoints if not is_revoked(vault, signed)]
    at_home = {signed.digest for signed in trusted}
    findings = list(witnesses.findings)
    outside = []
    for signed in witnesses.found:
        revoked = vault.keyring.custodians[signed.checkpoint.custodian].revoked_at is not None
        if revoked and signed.digest not in at_home:
            what = "was signed by a custodian who is revoked, and the vault does not have it"
            findings.append(Finding("suspicious", signed.where, what, (), "Sign a new checkpoint."))
        else:
            outside.append(signed)
    pinned = PointPins(workspace.home.folder, vault).read()
    for signed in seen.checkpoints:
        if signed.number == pinned.checkpoint and signed.digest.hex() != pinned.digest:
            what = "is another checkpoint than the one that this host saw"
            findings.append(Finding(FORKED, signed.where, what, (), "Do not trust this store."))
    findings += judge(seen.points, trusted, outside, pinned=pinned.checkpoint)
    known = {point_id for finding in findings for point_id in finding.affects}
    for alarm in vault.watch(seen.points, next(iter(trusted), None)):
        if not any(point_id[:12] in alarm.message for point_id in known):
            findings.append(Finding(ROLLED_BACK, vault.store.url, alarm.message, (), alarm.hint))
    return findings
