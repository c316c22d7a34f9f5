"""Making a vault, and letting hosts write to it."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from donjon.app.config import KnownVault
from donjon.app.wiring import Workspace, normal_url, open_store
from donjon.codec.sign import SigningKey
from donjon.core.errors import KeyNotAvailable, Refused, UsageError
from donjon.format.vault import Action
from donjon.repository.credential import WriterCredential
from donjon.repository.keyring import Writer, removal_record, writer_record
from donjon.repository.vault import Vault, create_vault

VAULT_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class InitRequest:
    """How to make a vault. ``lock_s`` is in seconds, 0 for no locks."""

    url: str
    kit: Path
    name: str | None
    passphrase: str | None
    lock_s: int
    enrol: bool


@dataclass(frozen=True, slots=True)
class NewVault:
    """A vault just made. ``kit_text`` is what the kit file holds."""

    vault: Vault
    name: str
    url: str
    fingerprint: str
    kit_text: str
    lock_enforcement: str


def init(workspace: Workspace, request: InitRequest, now: int) -> NewVault:
    """Make a vault and its recovery kit, and enrol this host unless told not to.

    The kit is on the disk before anything is put into the vault. Raises ``Refused`` if the place is not
    empty or the kit file exists.
    """
    from donjon.keys.recovery import RecoveryKit, write_kit

    url = normal_url(request.url)
    name = request.name or _default_name(workspace, url)
    workspace.home.check_name_is_free(name)
    if request.kit.exists():
        msg = f"{request.kit}: exists, and a recovery kit never overwrites anything"
        raise Refused(msg, hint="Choose another file name.")
    store = open_store(url, create=True)
    if next(iter(store.list()), None) is not None:
        msg = f"{url}: is not empty"
        raise Refused(msg, hint="Name an empty or new place; an existing vault is never overwritten.")
    kit = RecoveryKit.generate(
        vault_id=os.urandom(VAULT_ID_BYTES), vault_name=name, vault_url=url, created_at=now, with_root=True
    )
    root = kit.root
    assert root is not None  # noqa: S101  (just asked for)
    text = write_kit(request.kit, kit, request.passphrase)
    try:
        vault = create_vault(
            store, kit.vault_id, root, [kit.recipient("recovery kit")], lock_s=request.lock_s
        )
    except BaseException:
        request.kit.unlink()  # it opens nothing
        raise
    workspace.home.remember(KnownVault(name, url, kit.vault_id.hex(), root.public.hex()))
    if request.enrol:
        certify(vault, root, socket.gethostname(), url).write(_writer_path(workspace, vault))
    return NewVault(vault, name, url, kit.fingerprint, text, store.lock_enforcement.value)


def certify(vault: Vault, root: SigningKey, name: str, url: str) -> WriterCredential:
    """A new writer: certified in the keyring, its credential in hand."""
    signing_key = SigningKey.generate()
    now, secret = vault.store.now(), vault.secret
    credential = WriterCredential(
        vault_id=vault.vault_id,
        url=url,
        name=name,
        root_public=vault.object.root_public,
        seed=signing_key.seed,
        secret=secret.secret,
    )
    vault.keyring.add(
        vault.store,
        root,
        lambda number, previous: writer_record(signing_key.public, name, secret, now, number, previous),
        vault.lock_end(),
    )
    return credential


def open_with_root(workspace: Workspace) -> tuple[Vault, SigningKey]:
    """The vault and its root key. Raises ``KeyNotAvailable`` without a kit that holds it."""
    vault = workspace.open()
    kit = workspace.read_kit(vault)
    vault.use_opener(kit.opener())
    if kit.root is None:
        msg = f"{workspace.settings.kit}: this kit opens backups, but does not hold the vault's root key"
        raise KeyNotAvailable(msg, hint="Use the kit that `donjon init` made.")
    return vault, kit.root


def add_writer(workspace: Workspace, name: str, out: Path) -> WriterCredential:
    """Certify a writer for another host, its credential in a file."""
    if out.exists():
        msg = f"{out}: exists already"
        raise Refused(msg, hint="Name a file that does not exist yet.")
    vault, root = open_with_root(workspace)
    credential = certify(vault, root, name, vault.store.url)
    credential.write(out)
    return credential


def enrol(workspace: Workspace, file: Path, name: str | None) -> KnownVault:
    """Install a writer credential on this host, and check that the vault knows it."""
    credential = WriterCredential.read(file)
    path = workspace.home.writer_path(credential.vault_id)
    if path.exists():
        msg = f"this host is enrolled in {credential.url} already"
        raise Refused(msg, hint=f"Remove {path} first if it is to be replaced.")
    known = next((v for v in workspace.home.vaults() if v.vault_id == credential.vault_id.hex()), None)
    vault_name = name or (known.name if known else _default_name(workspace, credential.url))
    if known is None:
        workspace.home.check_name_is_free(vault_name)
    from donjon.repository.vault import open_vault

    vault = open_vault(open_store(credential.url), root_public=credential.root_public)
    writer = vault.keyring.writers.get(credential.writer_id)
    if writer is None or writer.revoked_at is not None:
        msg = f"{file}: the vault {credential.url} does not accept this writer"
        raise KeyNotAvailable(msg, hint="Make a new credential with `donjon writer add NAME --out FILE`.")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    credential.write(path)
    if known is None:
        known = KnownVault(
            vault_name, credential.url, credential.vault_id.hex(), credential.root_public.hex()
        )
        workspace.home.remember(known)
    return known


def writers(workspace: Workspace) -> list[tuple[Writer, str]]:
    """All writers with their names, which are hidden from those without any key."""
    vault = workspace.open()
    if workspace.has_key:
        workspace.unlock(vault)
    elif (path := workspace.home.writer_path(vault.vault_id)).exists():
        vault.use_secret(WriterCredential.read(path).secret)
    found = []
    for writer in vault.keyring.writers.values():
        label = vault.secret.read_label(writer.label, "keyring") if vault.has_secret else ""
        found.append((writer, label))
    return found


def revoke_writer(workspace: Workspace, wanted: str) -> tuple[Writer, str]:
    """Revoke the writer with this name or start of its id; what it put before stays.

    Raises ``UsageError`` if none or several fit.
    """
    vault, root = open_with_root(workspace)
    fitting = [
        (writer, label)
        for writer in vault.keyring.writers.values()
        if (label := vault.secret.read_label(writer.label, "keyring")) == wanted
        or (len(wanted) >= 4 and writer.writer_id.hex().startswith(wanted))
    ]
    active = [pair for pair in fitting if pair[0].revoked_at is None]
    if len(active) != 1:
        msg = f"{wanted!r} fits {len(active)} writers that are not revoked"
        raise UsageError(msg, hint="See `donjon writer list`, and give a name or the start of an id.")
    writer, label = active[0]
    now = vault.store.now()
    vault.keyring.add(
        vault.store,
        root,
        lambda number, previous: removal_record(
            Action.REVOKE_WRITER, writer.writer_id, now, number, previous
        ),
        vault.lock_end(),
    )
    return vault.keyring.writers[writer.writer_id], label


def _writer_path(workspace: Workspace, vault: Vault) -> Path:
    path = workspace.home.writer_path(vault.vault_id)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def _default_name(workspace: Workspace, url: str) -> str:
    """The last part of the address, made unique on this host."""
    base = "".join(c if c.isalnum() or c in "._-" else "-" for c in url.rstrip("/").rpartition("/")[2])
    base = base.lstrip("._-")[:48] or "vault"
    taken = {vault.name for vault in workspace.home.vaults()}
    return next(
        name for i in range(1, len(taken) + 2) if (name := base if i == 1 else f"{base}-{i}") not in taken
    )
