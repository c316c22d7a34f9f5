"""Making a vault: what is decided once and for all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from donjon.codec.chunk import Sizes
from donjon.codec.digest import digest
from donjon.codec.seal import new_key
from donjon.codec.sign import SigningKey
from donjon.core.clock import SECONDS_PER_DAY
from donjon.core.errors import DonjonError, ObjectExists, ObjectLocked, Refused, UsageError
from donjon.format import names
from donjon.format.approvers import ApproverList
from donjon.format.objects import ObjectKind, pack_object
from donjon.format.vault import VaultObject, VaultSecret
from donjon.keys.base import Connect, Recipient, no_services
from donjon.repository.approvers import first_record
from donjon.repository.keyring import Keyring
from donjon.repository.vault import Vault, add_recipient
from donjon.stores.base import LockEnforcement, ObjectStore

LONGEST_BACKUP_S = 2 * SECONDS_PER_DAY
SHORTEST_LOCK_S = 7 * SECONDS_PER_DAY


def check_lock(store: ObjectStore, lock_s: int) -> None:
    """Raises ``UsageError`` for a lock that is too short to be of use or that the store cannot hold."""
    if lock_s and lock_s < SHORTEST_LOCK_S:
        msg = f"a lock of {lock_s} s is too short: backups could not rely on each other's data"
        raise UsageError(msg, hint="Use at least 7d, or `none` for a vault without locks.")
    if lock_s and store.lock_enforcement is LockEnforcement.NONE:
        msg = f"{store.url}: this store cannot hold locks"
        raise UsageError(msg, hint="Choose another store, or give `--lock none` and protect it yourself.")


def check_empty(store: ObjectStore) -> None:
    """Raises ``Refused`` if there is anything in the store."""
    if (found := next(iter(store.list()), None)) is not None:
        msg = f"{store.url}: is not empty"
        hint = "Name an empty or new place; an existing vault is never overwritten."
        if found.name.startswith(names.KEYRING):
            hint += " If an `init` was killed here, remove what it left, or take another place."
        raise Refused(msg, hint=hint)


def check_create_only(store: ObjectStore, name: str) -> None:
    """Raises ``Refused`` if the store takes a second object of a name that it has.

    Some servers of S3 ignore ``If-None-Match``. There two backups of one number would both count as
    committed, and readers would see only one of them.
    """
    data = store.get(name)
    try:
        store.put(name, data)  # the same bytes, so that nothing else is there now whatever the store does
    except ObjectExists:
        return
    msg = f"{store.url}: the store lets a second object take the place of the first"
    hint = "Use a server that obeys `If-None-Match: *`; see docs/guide-s3.md for those that were tried."
    raise Refused(msg, hint=hint)


def create_vault(  # noqa: PLR0913  (what is decided once and for all)
    store: ObjectStore,
    vault_id: bytes,
    root: SigningKey,
    recipients: Sequence[Recipient],
    *,
    lock_s: int,
    sizes: Sizes | None = None,
    approvers: Callable[[VaultSecret], ApproverList] | None = None,
    before_commit: Callable[[Vault], None] | None = None,
    connect: Connect = no_services,
) -> Vault:
    """Make a vault in an empty store, with its first recipients.

    The vault object is put last and everything is locked after that, so that a failure can take back
    what was put. ``approvers`` makes the list of approvers, whose names the vault's secret hides; without it
    the vault never has any. ``before_commit`` can certify the first writers. ``connect`` reaches the key
    services among the recipients.

    Raises ``Refused`` if there is something in the store already or if its puts replace, ``UsageError`` for a
    lock that is too short to be of use or that the store cannot hold.
    """
    check_lock(store, lock_s)
    check_empty(store)
    sizes = sizes or Sizes()
    vault_object = VaultObject(
        vault_id,
        store.now(),
        root.public,
        sizes.minimum,
        sizes.average,
        sizes.maximum,
        lock_s,
        LONGEST_BACKUP_S,
    )
    data = pack_object(ObjectKind.VAULT, vault_object, vault_id, root)
    vault = Vault(store, vault_object, Keyring(vault_object, digest(data)), connect)
    vault.use_secret(VaultSecret(new_key()))
    vault.is_finished = False
    try:
        if approvers is not None:
            chosen, now = approvers(vault.secret), store.now()
            vault.keyring.add(store, root, lambda n, p: first_record(chosen, now, n, p), None)
        for recipient in recipients:
            add_recipient(vault, root, recipient)
        check_create_only(store, names.keyring(vault.keyring.number))
        if before_commit is not None:
            before_commit(vault)
        store.put(names.VAULT, data)
        vault.is_finished = True
        if end := vault.lock_end():
            for number in range(1, vault.keyring.number + 1):
                _lock(store, names.keyring(number), end)
            _lock(store, names.VAULT, end)
    except BaseException:
        _take_back(vault, data)
        raise
    return vault


def _lock(store: ObjectStore, name: str, end: int) -> None:
    """Lock an object until ``end``, unless the default of its bucket locked it for longer."""
    with contextlib.suppress(ObjectLocked):
        store.extend(name, end)


def _take_back(vault: Vault, data: bytes) -> None:
    """Delete what an ``init`` that failed has put; nothing that is somebody else's."""
    with contextlib.suppress(DonjonError):
        if vault.store.get(names.VAULT) == data:
            vault.store.delete_expired(names.VAULT)
    with contextlib.suppress(DonjonError):
        vault.keyring.read_on(vault.store)  # a put whose reply was lost; others have another root key
    for number in range(vault.keyring.number, 0, -1):
        with contextlib.suppress(DonjonError):
            vault.store.delete_expired(names.keyring(number))
