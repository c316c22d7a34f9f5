"""Taking a key out of the vault's keyring, and what its holder can open all the same."""

from __future__ import annotations

from dataclasses import dataclass

from donjon.app.approvals.requests import Asking
from donjon.app.keys.changes import Pending, change_or_ask
from donjon.app.keys.members import KeyInfo, infos
from donjon.app.setup import open_with_root
from donjon.app.wiring import Workspace
from donjon.codec.sign import SigningKey
from donjon.core.errors import Refused, UsageError
from donjon.format.vault import Action, KeyringRecord
from donjon.repository.approving import keyring_change
from donjon.repository.reach import Reach, reach
from donjon.repository.recipients import FEWEST, HOW_TO_ADD, weaknesses
from donjon.repository.records import removal_record
from donjon.repository.vault import Vault


@dataclass(frozen=True, slots=True)
class RevokedKey:
    """A key to which nothing is sealed any more, and what stays open to its holder."""

    key: KeyInfo
    reach: Reach
    warnings: list[str]


def revoke_key(
    workspace: Workspace, wanted: str, *, force: bool, single_recipient: bool, asking: Asking | None = None
) -> RevokedKey | Pending:
    """Seal nothing to this recipient any more, from the next session on.

    In a vault with approvers the first run asks them, and one after enough of them signed revokes the key.

    What was sealed to it stays open to whoever has it. Raises ``UsageError`` if no recipient or several
    fit, ``Refused`` for the last one, for one of the last two without ``single_recipient``, and without
    ``force`` for the one that this very command uses.
    """
    vault, root = open_with_root(workspace)
    key = find_key(vault, wanted)
    if key.recipient_id in {opener.recipient_id for opener in vault.openers} and not force:
        msg = (
            f"{key.name}: is the kit in use; without it you need another kit with the root key to change keys"
        )
        raise Refused(msg, hint="Use another kit that holds the root key, or give --force.")
    open_to_it = reach(vault, key.recipient_id)  # before, so that a failure changes nothing
    if pending := revoke(workspace, vault, root, key, single_recipient=single_recipient, asking=asking):
        return pending
    return RevokedKey(key, open_to_it, weaknesses(m.recipient for m in vault.keyring.members.values()))


def revoke(
    workspace: Workspace,
    vault: Vault,
    root: SigningKey,
    key: KeyInfo,
    *,
    single_recipient: bool,
    asking: Asking | None = None,
) -> Pending | None:
    """Append the record, or see that the approvers are asked to allow it; None says that it is done.

    Raises ``Refused`` if too few keys would be left by then.
    """
    if vault.keyring.approvers is not None:
        _demand_others(vault, key, single_recipient=single_recipient)
        change = keyring_change(vault, Action.REMOVE_RECIPIENT, key.recipient_id)
        return change_or_ask(workspace, vault, root, change, asking or Asking())
    now = vault.store.now()

    def still_allowed(number: int, previous: bytes) -> KeyringRecord:
        if key.recipient_id not in vault.keyring.members:
            msg = f"{key.name}: somebody else has just revoked it"
            raise Refused(msg, hint="See `donjon keys list`.")
        _demand_others(vault, key, single_recipient=single_recipient)
        return removal_record(Action.REMOVE_RECIPIENT, key.recipient_id, now, number, previous)

    vault.keyring.add(vault.store, root, still_allowed, vault.lock_end())
    workspace.home.keep_pin(vault.keyring)
    return None


def _demand_others(vault: Vault, key: KeyInfo, *, single_recipient: bool) -> None:
    count = len(vault.keyring.members)
    if count == 1:
        msg = f"{key.name}: is the last key; without it nobody could open the vault any more"
        raise Refused(msg, hint=f"Add another one first: {HOW_TO_ADD}.")
    if count <= FEWEST and not single_recipient:
        msg = f"{key.name}: is one of two keys; if the other one is lost, everything is"
        raise Refused(msg, hint=f"Add another one first: {HOW_TO_ADD}; or give --single-recipient.")


def find_key(vault: Vault, wanted: str) -> KeyInfo:
    """The recipient of this name, or whose id starts so. Raises ``UsageError`` if none or several fit."""
    fitting = fitting_keys(vault, wanted)
    if len(fitting) != 1:
        msg = f"{wanted!r} fits {len(fitting) or 'no'} keys"
        raise UsageError(msg, hint="See `donjon keys list`, and give a name or the start of an id.")
    return fitting[0]


def fitting_keys(vault: Vault, wanted: str) -> list[KeyInfo]:
    """All recipients that somebody can mean by a name or by the start of an id."""
    return [
        info
        for info in infos(vault)
        if info.name == wanted or (len(wanted) >= 4 and info.recipient_id.hex().startswith(wanted))
    ]
