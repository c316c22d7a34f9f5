"""Copies of a vault in other places, as every interface offers them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from donjon.app.setup import check_bucket, check_folder, remove_empty
from donjon.app.stores import local_folder, normal_url, open_store, with_endpoint
from donjon.app.wiring import Workspace
from donjon.core.addresses import split_address
from donjon.core.errors import StoreError, StoreUnavailable, UsageError, VaultNotFound
from donjon.core.events import Progress, StopCheck
from donjon.core.units import format_duration
from donjon.format import names
from donjon.repository.copy import Copied, copy_vault
from donjon.repository.creation import check_lock
from donjon.repository.vault import Vault
from donjon.stores.base import LockEnforcement, ObjectStore
from donjon.stores.limit import Bucket, LimitedStore

if TYPE_CHECKING:
    from donjon.plan.model import Credential  # which takes long to load, and few commands need it


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """Where to copy a vault. ``lock_s`` is in seconds, None for the vault's own lock.

    ``endpoint`` is where an S3 server answers that is not AWS. ``create`` makes the bucket, or mends it. At
    most ``upload_limit`` bytes a second go there. ``credential`` says whom to be in its cloud.
    """

    url: str
    lock_s: int | None = None
    dry_run: bool = False
    endpoint: str | None = None
    create: bool = False
    allow_weak_locks: bool = False
    upload_limit: int | None = None
    credential: Credential | None = None


@dataclass(frozen=True, slots=True)
class MadeCopy:
    """What a copy came to. ``lock_s`` is 0 without locks; a dry run does not find out who enforces them."""

    copied: Copied
    vault: Vault
    url: str
    lock_s: int
    lock_enforcement: str | None


def make_copy(workspace: Workspace, request: CopyRequest, progress: Progress, stop: StopCheck) -> MadeCopy:
    """Bring the copy of a vault at an address up to date; see ``copy_vault``. Needs no key.

    Raises ``UsageError`` for a lock that is shorter than the vault's, and for a place in the vault itself.
    """
    url = with_endpoint(normal_url(request.url).rstrip("/"), request.endpoint)
    vault = workspace.open()
    least = vault.object.lock_s
    if request.lock_s is not None and request.lock_s < least:
        short, long = format_duration(request.lock_s), format_duration(least)
        msg = f"a lock of {short} is shorter than the {long} of the vault"
        raise UsageError(msg, hint="Leave out --lock, or choose a longer one.")
    _check_apart(vault.store.url, url)
    with ExitStack() as undo:
        store = _open_target(request, url, least if request.lock_s is None else request.lock_s, undo)
        _check_apart(vault.store.url, store.url)
        if request.upload_limit is not None:
            store = LimitedStore(store, Bucket(request.upload_limit))
        with store:
            lock_s, enforcement = _lock(vault, request, store)
            copied = copy_vault(
                vault, store, lock_s=lock_s, progress=progress, stop=stop, dry_run=request.dry_run
            )
        undo.pop_all()
    return MadeCopy(copied, vault, store.url, lock_s, enforcement)


def _check_apart(source: str, target: str) -> None:
    """Raises ``UsageError`` if one place is the other, or in it."""
    one, other = split_address(source), split_address(target)
    same_server = (one.scheme, one.netloc, one.query) == (other.scheme, other.netloc, other.query)
    first, second = one.path.rstrip("/") + "/", other.path.rstrip("/") + "/"
    folders = local_folder(source), local_folder(target)
    if folders[0] is not None and folders[1] is not None:
        first, second = (f"{folder.resolve()}/" for folder in folders if folder is not None)
        same_server = True
    if same_server and (first.startswith(second) or second.startswith(first)):
        msg = f"{target}: is the vault itself, or one is inside the other"
        raise UsageError(msg, hint="Name another place, best one that others look after.")


def _open_target(request: CopyRequest, url: str, lock_s: int, undo: ExitStack) -> ObjectStore:
    """The store to copy to, checked like that of a new vault while it holds none."""
    folder = local_folder(url)
    if folder is not None and not any((folder / name).exists() for name in (names.VAULT, "keyring", ".tmp")):
        check_folder(folder)
        if request.dry_run and not folder.exists():
            from donjon.stores.memory import MemoryStore

            return MemoryStore(url=url)  # as empty as the folder would be
        missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        undo.callback(remove_empty, folder, missing)
    store = open_store(url, create=not request.dry_run, credential=request.credential)
    if request.create and not request.dry_run:
        store.make_bucket(lock_s)
    if not _has_vault(store):
        check_bucket(store, lock_s, allow_weak_locks=request.allow_weak_locks)
    return store


def _has_vault(store: ObjectStore) -> bool:
    try:
        store.get(names.VAULT, length=1)
    except StoreUnavailable:
        raise
    except (StoreError, VaultNotFound):  # perhaps there is no such bucket: the check tells how to make it
        return False
    return True


def _lock(vault: Vault, request: CopyRequest, store: ObjectStore) -> tuple[int, str | None]:
    """For how long to lock what is put, and who enforces that."""
    if request.dry_run:  # finding out may leave a trace
        return vault.object.lock_s if request.lock_s is None else request.lock_s, None
    enforcement = store.lock_enforcement
    if request.lock_s is not None:
        check_lock(store, request.lock_s)
        return request.lock_s, enforcement.value
    return (0 if enforcement is LockEnforcement.NONE else vault.object.lock_s), enforcement.value
