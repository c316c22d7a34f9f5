"""Who can open a vault: listing, adding, removing and checking its recipients."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from donjon.app.setup import open_with_kit, open_with_root, show_labels
from donjon.app.wiring import Workspace
from donjon.core.errors import IntegrityFailure, Refused, UsageError
from donjon.core.events import Progress
from donjon.format.vault import Action, KeyringRecord, secret_info
from donjon.keys.base import Recipient
from donjon.repository.keyring import Member, check_label, removal_record
from donjon.repository.sealing import Resealed, Survey, reseal, survey
from donjon.repository.vault import Vault, add_recipient


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A recipient for people. ``name`` is empty without any key of the vault."""

    recipient_id: bytes
    kind: str
    name: str
    created_at: int


@dataclass(frozen=True, slots=True)
class AddedKey:
    """A recipient just added, and how its sessions were sealed. ``fingerprint`` is that of a kit."""

    key: KeyInfo
    resealed: Resealed
    fingerprint: str = ""


def list_keys(workspace: Workspace) -> list[KeyInfo]:
    """All recipients; needs no key, but shows their names only with one."""
    vault = workspace.open()
    show_labels(workspace, vault)
    return _infos(vault)


def add_passphrase(workspace: Workspace, name: str, passphrase: str, progress: Progress) -> AddedKey:
    """Let a passphrase open the vault, all earlier backups included."""
    from donjon.keys.passphrase import create

    check_label(name)
    vault, root = open_with_root(workspace)
    _check_name(vault, name)
    recipient = create(name, passphrase, created_at=vault.store.now())
    add_recipient(vault, root, recipient)
    workspace.home.keep_pin(vault.keyring)
    return AddedKey(_info(vault, recipient), reseal(vault, root, [recipient], progress))


def add_kit(
    workspace: Workspace, name: str, out: Path, passphrase: str | None, progress: Progress, *, with_root: bool
) -> AddedKey:
    """Make one more recovery kit, in a file that does not exist yet.

    The kit is on the disk before the vault knows it. ``with_root`` puts the root key on it too.
    """
    from donjon.keys.recovery import RecoveryKit, write_kit

    check_label(name)
    if os.path.lexists(out):
        msg = f"{out}: exists, and a recovery kit never overwrites anything"
        raise Refused(msg, hint="Choose another file name.")
    vault, own, root = open_with_kit(workspace)
    _check_name(vault, name)
    kit = RecoveryKit.generate(
        vault_id=vault.vault_id,
        vault_name=own.vault_name,
        vault_url=vault.store.url,
        created_at=vault.store.now(),
        with_root=False,
    )
    if with_root:
        kit = replace(kit, root_seed=root.seed)
    write_kit(out, kit, passphrase)
    recipient = kit.recipient(name)
    try:
        add_recipient(vault, root, recipient)
    except BaseException:
        if recipient.recipient_id not in vault.keyring.members:
            out.unlink()  # it opens nothing
        raise
    workspace.home.keep_pin(vault.keyring)
    member = vault.keyring.members[recipient.recipient_id]
    if kit.opener().open(member.sealed_secret, secret_info(vault.vault_id)) != vault.secret.secret:
        msg = f"{out}: the new kit does not open the vault"
        raise IntegrityFailure(
            msg, hint="Remove it with `donjon keys remove`, and check this machine's memory."
        )
    done = reseal(vault, root, [recipient], progress)
    return AddedKey(_info(vault, recipient), done, kit.fingerprint)


def reseal_all(workspace: Workspace, progress: Progress) -> Resealed:
    """Seal every session to every recipient that it was not sealed to."""
    vault, root = open_with_root(workspace)
    return reseal(vault, root, [m.recipient for m in vault.keyring.members.values()], progress)


def remove_key(workspace: Workspace, wanted: str, *, force: bool) -> KeyInfo:
    """Seal nothing to this recipient any more. What it could open stays open to whoever has it.

    Raises ``UsageError`` if no recipient or several fit, ``Refused`` for the last one, and without
    ``force`` for the one that this very command uses.
    """
    vault, root = open_with_root(workspace)
    fitting = [
        info
        for info in _infos(vault)
        if info.name == wanted or (len(wanted) >= 4 and info.recipient_id.hex().startswith(wanted))
    ]
    if len(fitting) != 1:
        msg = f"{wanted!r} fits {len(fitting) or 'no'} keys"
        raise UsageError(msg, hint="See `donjon keys list`, and give a name or the start of an id.")
    key = fitting[0]
    if key.recipient_id in {opener.recipient_id for opener in vault.openers} and not force:
        msg = (
            f"{key.name}: is the kit in use; without it you need another kit with the root key to change keys"
        )
        raise Refused(msg, hint="Use another kit that holds the root key, or give --force.")
    now = vault.store.now()

    def still_allowed(number: int, previous: bytes) -> KeyringRecord:
        if key.recipient_id not in vault.keyring.members:
            msg = f"{key.name}: somebody else has just removed it"
            raise Refused(msg, hint="See `donjon keys list`.")
        if len(vault.keyring.members) == 1:
            msg = f"{key.name}: is the last key; without it nobody could open the vault any more"
            raise Refused(msg, hint="Add another one first: `donjon keys add kit --out FILE --name NAME`.")
        return removal_record(Action.REMOVE_RECIPIENT, key.recipient_id, now, number, previous)

    vault.keyring.add(vault.store, root, still_allowed, vault.lock_end())
    workspace.home.keep_pin(vault.keyring)
    return key


def check_keys(workspace: Workspace, progress: Progress) -> tuple[list[KeyInfo], Survey]:
    """Open every session with the given key, and see who else can."""
    vault = workspace.open_for_reading()
    return _infos(vault), survey(vault, progress)


def _infos(vault: Vault) -> list[KeyInfo]:
    return [_info(vault, member.recipient) for member in vault.keyring.members.values()]


def _info(vault: Vault, recipient: Recipient) -> KeyInfo:
    member: Member = vault.keyring.members[recipient.recipient_id]
    name = vault.secret.read_label(member.label, "keyring") if vault.has_secret else ""
    return KeyInfo(recipient.recipient_id, recipient.kind, name, recipient.created_at)


def _check_name(vault: Vault, name: str) -> None:
    if any(info.name == name for info in _infos(vault)):
        msg = f"there is a key {name!r} already"
        raise Refused(msg, hint="Choose another name; see `donjon keys list`.")
