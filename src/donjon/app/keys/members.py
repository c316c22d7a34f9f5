"""Who can open a vault: listing, adding, removing and checking its recipients."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from donjon.app.setup import open_with_kit, open_with_root, show_labels
from donjon.app.wiring import Workspace
from donjon.core.errors import IntegrityFailure, Refused
from donjon.core.events import Progress
from donjon.format.vault import secret_info
from donjon.keys.address import KeyAddress
from donjon.keys.base import Recipient
from donjon.repository.keyring import Member
from donjon.repository.recipients import weaknesses
from donjon.repository.records import check_label
from donjon.repository.sealing import Resealed, reseal
from donjon.repository.vault import Vault, add_recipient


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A recipient for people. ``name`` is empty without any key of the vault.

    ``uri`` is the address of a key in a key service, empty for others and for one that cannot be read.
    """

    recipient_id: bytes
    kind: str
    name: str
    created_at: int
    uri: str = ""


@dataclass(frozen=True, slots=True)
class AddedKey:
    """A recipient just added, and how its sessions were sealed. ``fingerprint`` is that of a kit."""

    key: KeyInfo
    resealed: Resealed
    fingerprint: str = ""


def list_keys(workspace: Workspace) -> tuple[list[KeyInfo], list[str]]:
    """All recipients, and what is wrong with them; needs no key, but shows their names only with one."""
    vault = workspace.open()
    show_labels(workspace, vault)
    return infos(vault), weaknesses(member.recipient for member in vault.keyring.members.values())


def add_passphrase(workspace: Workspace, name: str, passphrase: str, progress: Progress) -> AddedKey:
    """Let a passphrase open the vault, all earlier backups included."""
    from donjon.keys.passphrase import create

    check_label(name)
    vault, root = open_with_root(workspace)
    check_name(vault, name)
    recipient = create(name, passphrase, created_at=vault.store.now())
    add_recipient(vault, root, recipient)
    workspace.home.keep_pin(vault.keyring)
    return AddedKey(info(vault, recipient), reseal(vault, root, [recipient], progress))


def add_service(workspace: Workspace, name: str, uri: str, progress: Progress) -> AddedKey:
    """Let a key of a key service open the vault, all earlier backups included.

    Takes the right to seal with the key, but not to open with it. Raises ``UsageError`` for an address that
    is none, ``Refused`` if the key opens the vault already.
    """
    from donjon.keys.address import service_recipient
    from donjon.keys.services import parse_address

    check_label(name)
    address = parse_address(uri)
    vault, root = open_with_root(workspace)
    check_name(vault, name)
    for member in vault.keyring.members.values():
        known = address_of(member.recipient)
        if known is not None and known.identity == address.identity:
            msg = f"{uri}: opens this vault already, as {known.uri}"
            raise Refused(msg, hint="See `donjon keys list`; `donjon keys reseal` completes what is missing.")
    recipient = service_recipient(address, name, vault.store.now())
    add_recipient(vault, root, recipient)
    workspace.home.keep_pin(vault.keyring)
    return AddedKey(info(vault, recipient), reseal(vault, root, [recipient], progress))


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
    check_name(vault, name)
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
            msg, hint="Remove it with `donjon keys revoke`, and check this machine's memory."
        )
    done = reseal(vault, root, [recipient], progress)
    return AddedKey(info(vault, recipient), done, kit.fingerprint)


def reseal_all(workspace: Workspace, progress: Progress) -> Resealed:
    """Seal every session to every recipient that it was not sealed to."""
    vault, root = open_with_root(workspace)
    return reseal(vault, root, [m.recipient for m in vault.keyring.members.values()], progress)


def infos(vault: Vault) -> list[KeyInfo]:
    """All recipients of a vault, with their names if its secret is at hand."""
    return [info(vault, member.recipient) for member in vault.keyring.members.values()]


def info(vault: Vault, recipient: Recipient) -> KeyInfo:
    """A recipient of a vault, with its name if the vault's secret is at hand."""
    member: Member = vault.keyring.members[recipient.recipient_id]
    name = vault.secret.read_label(member.label, "keyring") if vault.has_secret else ""
    address = address_of(recipient)
    uri = address.uri if address is not None else ""
    return KeyInfo(recipient.recipient_id, recipient.kind, name, recipient.created_at, uri)


def address_of(recipient: Recipient) -> KeyAddress | None:
    """Where the key of a recipient is, None if in no key service or in one that this Donjon cannot read."""

    from donjon.keys.services import read_address

    if not recipient.is_service:
        return None
    try:
        return read_address(recipient)
    except IntegrityFailure:
        return None


def check_name(vault: Vault, name: str) -> None:
    """Raises ``Refused`` if a recipient of this name is there already."""
    if any(info.name == name for info in infos(vault)):
        msg = f"there is a key {name!r} already"
        raise Refused(msg, hint="Choose another name; see `donjon keys list`.")
