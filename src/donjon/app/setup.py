"""Making a vault, and letting hosts write to it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from donjon.app.config import KnownVault
from donjon.app.stores import local_folder, normal_url, open_store, with_endpoint
from donjon.app.wiring import Workspace, key_services
from donjon.codec.sign import SigningKey
from donjon.core.errors import KeyNotAvailable, PermissionMissing, Refused, UsageError
from donjon.format.approvers import ApproverList
from donjon.format.vault import VAULT_ID_BYTES, VaultSecret
from donjon.keys.base import Recipient
from donjon.keys.private import private_folder
from donjon.repository.approver_keys import ApproverKey, check_approvers, choose_approvers
from donjon.repository.creation import check_empty, check_lock, create_vault
from donjon.repository.credential import WriterCredential
from donjon.repository.keyring import vault_id_of
from donjon.repository.records import writer_record
from donjon.repository.vault import Vault
from donjon.stores.base import ObjectStore

if TYPE_CHECKING:
    from donjon.keys.recovery import RecoveryKit


@dataclass(frozen=True, slots=True)
class InitRequest:
    """How to make a vault. ``lock_s`` is in seconds, 0 for no locks.

    ``endpoint`` is where an S3 server answers that is not AWS. ``create`` makes the bucket, or mends it.
    ``approvals`` of the ``approvers`` together may let points go early; without any nobody ever may.
    ``keys`` are addresses of keys in key services that open the vault beside the kit, as do ``second_kit``,
    which holds no root key and takes no ``passphrase``, and ``vault_passphrase``; without any of them the
    vault has a single recipient, which must be meant.
    """

    url: str
    kit: Path
    name: str | None
    passphrase: str | None = field(repr=False)
    lock_s: int
    enrol: bool
    endpoint: str | None = None
    create: bool = False
    allow_weak_locks: bool = False
    approvers: tuple[ApproverKey, ...] = ()
    approvals: int = 0
    keys: tuple[str, ...] = ()
    second_kit: Path | None = None
    vault_passphrase: str | None = field(default=None, repr=False)
    single_recipient: bool = False

    @property
    def kits(self) -> list[Path]:
        """Where kits are to be saved."""
        return [self.kit] if self.second_kit is None else [self.kit, self.second_kit]


@dataclass(frozen=True, slots=True)
class NewVault:
    """A vault just made. ``kit_text`` is what the kit file holds, ``recipients`` how many keys open it."""

    vault: Vault
    name: str
    url: str
    fingerprint: str
    kit_text: str = field(repr=False)
    lock_enforcement: str
    recipients: int
    second_fingerprint: str | None


def init(workspace: Workspace, request: InitRequest, now: int) -> NewVault:
    """Make a vault and its recovery kit, and enrol this host unless told not to.

    The kit, the credential and the configuration are on the disk before the vault counts, which it does
    with its last put; a failure takes all of it back. Raises ``Refused`` if the place is not empty or a
    kit file exists, ``UsageError`` if one key alone would open the vault and that was not asked for.
    """
    from donjon.keys.recovery import RecoveryKit, new_opening_key, write_kit

    url = with_endpoint(normal_url(request.url), request.endpoint)
    name = request.name or default_name(workspace, url)
    workspace.home.check_name_is_free(name)
    _check_recipients(request)
    for place in request.kits:
        _check_kit_place(place, url)
    if request.approvers or request.approvals:
        check_approvers(request.approvers, request.approvals)
    services = _services(request.keys, now)
    with ExitStack() as undo:
        store = _empty_store(request, url, undo)
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
        second = replace(kit, opening_key=new_opening_key(), root_seed=None) if request.second_kit else None
        if request.second_kit is not None and second is not None:
            write_kit(request.second_kit, second)
            undo.callback(request.second_kit.unlink, missing_ok=True)
        draft = workspace.home.prepare(known)
        undo.callback(draft.unlink, missing_ok=True)

        def enrol_this_host(vault: Vault) -> None:
            credential = certify(vault, root, socket.gethostname(), url)
            path = writer_path(workspace, vault.vault_id)
            credential.write(path)
            undo.callback(path.unlink, missing_ok=True)

        vault = create_vault(
            store,
            kit.vault_id,
            root,
            [kit.recipient("recovery kit"), *_others(request, second, now), *services],
            lock_s=request.lock_s,
            approvers=_choose(request) if request.approvers else None,
            before_commit=enrol_this_host if request.enrol else None,
            connect=key_services(),
        )
        undo.pop_all()
    workspace.home.adopt(draft, known)
    workspace.home.keep_pin(vault.keyring)
    return NewVault(
        vault,
        name,
        url,
        kit.fingerprint,
        text,
        store.lock_enforcement.value,
        len(vault.keyring.members),
        second.fingerprint if second is not None else None,
    )


def _others(request: InitRequest, second: RecoveryKit | None, now: int) -> list[Recipient]:
    """The recipients beside the kit that are in no key service."""
    from donjon.keys.passphrase import create

    found = [second.recipient("second kit")] if second is not None else []
    if request.vault_passphrase is not None:
        found.append(create("passphrase", request.vault_passphrase, created_at=now))
    return found


def _check_recipients(request: InitRequest) -> None:
    """Raises ``UsageError`` if losing one thing would lose the vault."""
    if request.second_kit is not None and request.second_kit.absolute() == request.kit.absolute():
        msg = f"{request.kit}: cannot hold both kits"
        raise UsageError(msg, hint="Give two files, best on two media that go to two places.")
    if request.vault_passphrase is not None and request.vault_passphrase == request.passphrase:
        msg = "the passphrase of the kit and that of the vault are the same: forget it and both are closed"
        raise UsageError(msg, hint="Use two passphrases, or leave the kit without one.")
    several = request.second_kit is not None or request.vault_passphrase is not None or request.keys
    if several or request.single_recipient:
        return
    msg = "one key alone would open this vault: lose it, and every backup is lost"
    hint = (
        "Add a second one: --second-kit FILE (for another place), --key URI (a key service) or "
        "--vault-passphrase-file FILE. --single-recipient makes the vault with one all the same."
    )
    raise UsageError(msg, hint=hint)


def _choose(request: InitRequest) -> Callable[[VaultSecret], ApproverList]:
    return lambda secret: choose_approvers(request.approvals, request.approvers, secret)


def _services(keys: Sequence[str], now: int) -> list[Recipient]:
    """The recipients behind addresses, each named after its kind. Raises ``UsageError`` for one twice."""
    from donjon.keys.address import service_recipient
    from donjon.keys.services import parse_address

    addresses = [parse_address(uri) for uri in keys]
    if len({address.identity for address in addresses}) < len(addresses):
        msg = "--key names the same key twice"
        raise UsageError(msg, hint="Give each key once.")
    kinds = [address.kind for address in addresses]
    named = [kinds[: place + 1].count(kind) for place, kind in enumerate(kinds)]
    return [
        service_recipient(address, address.kind if number == 1 else f"{address.kind} {number}", now)
        for address, number in zip(addresses, named, strict=True)
    ]


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


def _empty_store(request: InitRequest, url: str, undo: ExitStack) -> ObjectStore:
    """The store for a new vault; the folders that it needs are removed again if nothing comes of it."""
    folder = local_folder(url)
    if folder is not None:
        check_folder(folder)
        missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        undo.callback(remove_empty, folder, missing)
    store = open_store(url, create=True)
    if request.create:
        store.make_bucket(request.lock_s)
    check_bucket(store, request.lock_s, allow_weak_locks=request.allow_weak_locks)
    check_empty(store)
    return store


def check_bucket(store: ObjectStore, lock_s: int, *, allow_weak_locks: bool) -> None:
    """Raises ``Refused`` with the commands that mend the bucket."""
    found = store.check_bucket(lock_s)
    faults = [fault for fault in found if not (fault.weak and allow_weak_locks)]
    if faults:
        msg = f"{store.url}: cannot hold a vault as it is: {'; '.join(fault.fault for fault in faults)}"
        fixes = " && ".join(dict.fromkeys(fault.fix for fault in faults))
        ways = ["--create"] if store.makes_buckets else []
        ways += ["--allow-weak-locks"] if all(fault.weak for fault in faults) else []
        repeat = f" Or repeat with {' or '.join(ways)}." if ways else ""
        raise Refused(msg, hint=f"Run: {fixes}{repeat}")


def check_folder(folder: Path) -> None:
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


def remove_empty(folder: Path, made: list[Path]) -> None:
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


def show_labels(workspace: Workspace, vault: Vault) -> None:
    """Use whatever key is at hand for the names in the keyring; without one they stay hidden."""
    if workspace.has_key:
        workspace.unlock(vault)
    elif (path := workspace.home.writer_path(vault.vault_id)).exists():
        vault.use_secret(WriterCredential.read(path).secret)


def writer_path(workspace: Workspace, vault_id: bytes) -> Path:
    """Where this host keeps its writer credential; the folder is there then."""
    path = workspace.home.writer_path(vault_id)
    private_folder(path.parent)
    return path


def default_name(workspace: Workspace, url: str) -> str:
    """The last part of the address, made unique on this host."""
    path = url.partition("?")[0]
    base = "".join(c if c.isalnum() or c in "._-" else "-" for c in path.rstrip("/").rpartition("/")[2])
    base = base.lstrip("._-")[:48] or "vault"
    taken = {vault.name for vault in workspace.home.vaults()}
    return next(
        name for i in range(1, len(taken) + 2) if (name := base if i == 1 else f"{base}-{i}") not in taken
    )
