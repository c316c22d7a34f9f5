"""Making a vault, and letting hosts write to it."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from donjon.app.config import KnownVault
from donjon.app.wiring import Workspace, local_folder, normal_url, open_store, open_vault_at
from donjon.codec.sign import SigningKey
from donjon.core.errors import KeyNotAvailable, PermissionMissing, Refused, UsageError
from donjon.format.vault import VAULT_ID_BYTES
from donjon.keys.private import private_folder
from donjon.repository.credential import WriterCredential
from donjon.repository.keyring import vault_id_of, writer_record
from donjon.repository.vault import Vault, check_empty, check_lock, create_vault
from donjon.stores.base import ObjectStore

if TYPE_CHECKING:
    from donjon.keys.recovery import RecoveryKit


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

    The kit, the credential and the configuration are on the disk before the vault counts, which it does
    with its last put; a failure takes all of it back. Raises ``Refused`` if the place is not empty or the
    kit file exists.
    """
    from donjon.keys.recovery import RecoveryKit, write_kit

    url = normal_url(request.url)
    name = request.name or _default_name(workspace, url)
    workspace.home.check_name_is_free(name)
    _check_kit_place(request.kit, url)
    with ExitStack() as undo:
        store = _empty_store(url, undo)
        _check_bucket(store, request.lock_s)
        check_lock(store, request.lock_s)
        kit = RecoveryKit.generate(
            vault_id=bytes(VAULT_ID_BYTES), vault_name=name, vault_url=url, created_at=now, with_root=True
        )
        root = kit.root
        assert root is not None  # noqa: S101  (just asked for)
        kit = replace(kit, vault_id=vault_id_of(root.public))
        known = KnownVault(name, url, kit.vault_id.hex(), root.public.hex())
        text = write_kit(request.kit, kit, request.passphrase)
        undo.callback(request.kit.unlink, missing_ok=True)  # it opens nothing
        draft = workspace.home.prepare(known)
        undo.callback(draft.unlink, missing_ok=True)

        def enrol_this_host(vault: Vault) -> None:
            credential = certify(vault, root, socket.gethostname(), url)
            path = _writer_path(workspace, vault.vault_id)
            credential.write(path)
            undo.callback(path.unlink, missing_ok=True)

        vault = create_vault(
            store,
            kit.vault_id,
            root,
            [kit.recipient("recovery kit")],
            lock_s=request.lock_s,
            before_commit=enrol_this_host if request.enrol else None,
        )
        undo.pop_all()
    workspace.home.adopt(draft, known)
    workspace.home.keep_pin(vault.keyring)
    return NewVault(vault, name, url, kit.fingerprint, text, store.lock_enforcement.value)


def _check_kit_place(kit: Path, url: str) -> None:
    if os.path.lexists(kit):
        msg = f"{kit}: exists, and a recovery kit never overwrites anything"
        raise Refused(msg, hint="Choose another file name.")
    if not kit.absolute().parent.is_dir():
        msg = f"{kit}: there is no folder {kit.absolute().parent}"
        raise UsageError(msg, hint="Make it first, or mount the medium that it is on.")
    vault = local_folder(url)
    if vault is not None and kit.resolve().is_relative_to(vault.resolve()):
        msg = f"{kit}: would lie inside the vault that it opens"
        raise UsageError(msg, hint="Choose a place that leaves this host, such as a USB stick.")


def _empty_store(url: str, undo: ExitStack) -> ObjectStore:
    """The store for a new vault; the folders that it needs are removed again if nothing comes of it."""
    folder = local_folder(url)
    if folder is not None:
        _check_folder(folder)
        missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        undo.callback(_remove_empty, folder, missing)
    store = open_store(url, create=True)
    check_empty(store)
    return store


def _check_bucket(store: ObjectStore, lock_s: int) -> None:
    """Raises ``Refused`` for a bucket or container that would not keep what a vault promises."""
    if faults := store.check_bucket(lock_s):
        msg = f"{store.url}: cannot hold a vault as it is: {'; '.join(fault.fault for fault in faults)}"
        raise Refused(msg, hint=f"Run: {' && '.join(fault.fix for fault in faults)}")


def _check_folder(folder: Path) -> None:
    """Raises ``Refused`` for a folder with anything in it, whoever put that there."""
    try:
        found = sorted(entry for entry in os.listdir(folder) if entry != "lost+found")  # noqa: PTH208
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        msg = f"{folder}: is no folder"
        raise Refused(msg, hint="Name an empty or new folder.") from error
    except OSError as error:
        msg = f"{folder}: cannot be read: {error.strerror}"
        raise PermissionMissing(msg, hint="Choose a folder that you may read and write.") from error
    if "vault" in found and "keyring" in found:
        msg = f"{folder}: holds a vault already"
        raise Refused(msg, hint="An existing vault is never overwritten; name an empty or new folder.")
    if found:
        msg = f"{folder}: is not empty: it holds {found[0]!r}"
        raise Refused(msg, hint="Name an empty or new folder.")


def _remove_empty(folder: Path, made: list[Path]) -> None:
    """Remove the empty folders that a store left in ``folder``, then those of ``made`` that are empty."""
    inside = [Path(path) for path, _, _ in os.walk(folder, topdown=False)]
    for path in (*(path for path in inside if path != folder and path.name != "lost+found"), *made):
        with suppress(OSError):
            path.rmdir()


def certify(vault: Vault, root: SigningKey, name: str, url: str) -> WriterCredential:
    """A new writer: certified in the keyring, its credential in hand."""
    credential = new_writer_credential(vault, name, url)
    _certify(vault, root, credential)
    return credential


def new_writer_credential(vault: Vault, name: str, url: str) -> WriterCredential:
    """A credential that no keyring record certifies yet."""
    return WriterCredential(
        vault_id=vault.vault_id,
        url=url,
        name=name,
        root_public=vault.object.root_public,
        seed=SigningKey.generate().seed,
        secret=vault.secret.secret,
    )


def _certify(vault: Vault, root: SigningKey, credential: WriterCredential) -> None:
    now, public = vault.store.now(), credential.signing_key.public
    vault.keyring.add(
        vault.store,
        root,
        lambda number, previous: writer_record(public, credential.name, vault.secret, now, number, previous),
        vault.lock_end(),
    )


def open_with_root(workspace: Workspace) -> tuple[Vault, SigningKey]:
    """The vault and its root key. Raises ``KeyNotAvailable`` without a kit that holds it."""
    vault, _, root = open_with_kit(workspace)
    return vault, root


def open_with_kit(workspace: Workspace) -> tuple[Vault, RecoveryKit, SigningKey]:
    """Like ``open_with_root``, with the kit itself."""
    vault = workspace.open()
    kit = workspace.read_kit(vault)
    vault.use_opener(kit.opener())
    if kit.root is None:
        msg = f"{workspace.settings.kit}: this kit opens backups, but does not hold the vault's root key"
        raise KeyNotAvailable(msg, hint="Use the kit that `donjon init` made.")
    workspace.home.keep_pin(vault.keyring)
    return vault, kit, kit.root


def enrol(workspace: Workspace, file: Path, name: str | None) -> KnownVault:
    """Install a writer credential on this host, and check that the vault knows it."""
    credential = WriterCredential.read(file)
    path = workspace.home.writer_path(credential.vault_id)
    if path.exists():
        msg = f"this host is enrolled in {credential.url} already"
        raise Refused(msg, hint=f"Remove {path} first if it is to be replaced.")
    known = next((v for v in workspace.home.vaults() if v.vault_id == credential.vault_id.hex()), None)
    if known is not None and known.root_public != credential.root_public.hex():
        msg = f"{file}: names another root key for {known.name} than this host knows"
        raise KeyNotAvailable(msg, hint="Do not use it; find out who made it.")
    if known is None:
        vault_name = name or _default_name(workspace, credential.url)
        workspace.home.check_name_is_free(vault_name)
    vault = open_vault_at(credential.url, root_public=credential.root_public)
    workspace.home.check_pin(vault.keyring)
    writer = vault.keyring.writers.get(credential.writer_id)
    if vault.vault_id != credential.vault_id or writer is None or writer.revoked_at is not None:
        msg = f"{file}: the vault {credential.url} does not accept this writer"
        raise KeyNotAvailable(msg, hint="Make a new credential with `donjon writer add NAME --out FILE`.")
    credential.write(_writer_path(workspace, credential.vault_id))
    if known is None:
        known = KnownVault(
            vault_name, credential.url, credential.vault_id.hex(), credential.root_public.hex()
        )
        try:
            workspace.home.remember(known)
        except BaseException:
            path.unlink()
            raise
    workspace.home.keep_pin(vault.keyring)
    return known


def show_labels(workspace: Workspace, vault: Vault) -> None:
    """Use whatever key is at hand for the names in the keyring; without one they stay hidden."""
    if workspace.has_key:
        workspace.unlock(vault)
    elif (path := workspace.home.writer_path(vault.vault_id)).exists():
        vault.use_secret(WriterCredential.read(path).secret)


def _writer_path(workspace: Workspace, vault_id: bytes) -> Path:
    path = workspace.home.writer_path(vault_id)
    private_folder(path.parent)
    return path


def _default_name(workspace: Workspace, url: str) -> str:
    """The last part of the address, made unique on this host."""
    base = "".join(c if c.isalnum() or c in "._-" else "-" for c in url.rstrip("/").rpartition("/")[2])
    base = base.lstrip("._-")[:48] or "vault"
    taken = {vault.name for vault in workspace.home.vaults()}
    return next(
        name for i in range(1, len(taken) + 2) if (name := base if i == 1 else f"{base}-{i}") not in taken
    )
