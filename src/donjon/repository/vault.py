"""An open vault: where it is, who may do what in it, and the keys at hand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from donjon.codec.chunk import Sizes
from donjon.codec.digest import digest
from donjon.codec.seal import new_key
from donjon.codec.sign import SigningKey
from donjon.core.clock import SECONDS_PER_DAY
from donjon.core.errors import (
    DonjonError,
    IntegrityFailure,
    KeyNotAvailable,
    ObjectNotFound,
    Refused,
    UsageError,
    VaultNotFound,
)
from donjon.format import names
from donjon.format.objects import ObjectKind, pack_object, parse_object, verify_object
from donjon.format.session import SealObject, SessionObject, commitment
from donjon.format.vault import VaultObject, VaultSecret, secret_info, session_info
from donjon.keys.base import Opener, Recipient
from donjon.repository.fetch import fetch_object
from donjon.repository.keyring import Keyring, recipient_record
from donjon.stores.base import LockEnforcement, ObjectStore

if TYPE_CHECKING:
    from donjon.repository.checkpoints import Signed
    from donjon.repository.points import Point

LONGEST_BACKUP_S = 2 * SECONDS_PER_DAY
#: A writer relies on a pack only if its lock outlasts the longest backup by this much.
LOCK_MARGIN_S = SECONDS_PER_DAY
SHORTEST_LOCK_S = 7 * SECONDS_PER_DAY


#: See ``Vault.watch``; the checkpoint is None if the vault has none that counts.
Watch = Callable[["Sequence[Point]", "Signed | None"], list[IntegrityFailure]]


def nothing_seen(points: Sequence[Point], newest: Signed | None) -> list[IntegrityFailure]:
    """The ``Watch`` of a client that remembers nothing."""
    return []


class Vault:
    """A vault that was found and whose root key is the one expected."""

    def __init__(self, store: ObjectStore, vault: VaultObject, keyring: Keyring) -> None:
        self.store = store
        self.object = vault
        self.keyring = keyring
        self.openers: list[Opener] = []
        self.is_finished = True
        #: Told of all points and the newest checkpoint when they are listed; gives what contradicts
        #: what this client saw before.
        self.watch: Watch = nothing_seen
        self._secret: VaultSecret | None = None
        self._session_keys: dict[tuple[bytes, int], bytes] = {}

    @property
    def vault_id(self) -> bytes:
        """16 bytes."""
        return self.object.vault_id

    @property
    def secret(self) -> VaultSecret:
        """The vault secret. Raises ``KeyNotAvailable`` if neither a writer nor an opener is at hand."""
        if self._secret is None:
            msg = f"{self.store.url}: no key at hand that opens this vault"
            hint = "Give the recovery kit with --kit FILE or DONJON_KIT, or --passphrase-file FILE."
            raise KeyNotAvailable(msg, hint=hint)
        return self._secret

    @property
    def has_secret(self) -> bool:
        """Whether ``secret`` is at hand."""
        return self._secret is not None

    def use_secret(self, secret: VaultSecret) -> None:
        """Use a vault secret that was handed over, as a writer does."""
        self._secret = secret

    def use_opener(self, opener: Opener) -> None:
        """Open backups with this opener from now on.

        Raises ``KeyNotAvailable`` if it is not one of the vault's recipients.
        """
        member = self.keyring.members.get(opener.recipient_id)
        if member is None:
            msg = f"{self.store.url}: this key is not, or no longer, one of the vault's recipients"
            raise KeyNotAvailable(msg, hint="See `donjon keys list`, and use a kit of this vault.")
        self._secret = VaultSecret(opener.open(member.sealed_secret, secret_info(self.vault_id)))
        self.openers.append(opener)

    def lock_end(self) -> int | None:
        """Until when an object that is put now is to be locked, None for not at all.

        Lock ends fall on whole days, so that the objects of a day share one epoch. While a vault is
        being made nothing is locked, so that a failure leaves nothing behind.
        """
        if not (self.object.lock_s and self.is_finished):
            return None
        end = self.store.now() + self.object.lock_s
        return -(-end // SECONDS_PER_DAY) * SECONDS_PER_DAY

    def outlasts_backup(self, lock_until: int, now: int) -> bool:
        """Whether a backup that starts now may rely on an object that is locked until then."""
        return not self.object.lock_s or lock_until > now + self.object.longest_backup_s + LOCK_MARGIN_S

    def session_key(self, writer: bytes, number: int) -> bytes:
        """The data key of a session.

        Raises ``KeyNotAvailable`` if no opener at hand opens it, ``IntegrityFailure`` if the session
        object is missing or not its writer's.
        """
        if key := self._session_keys.get((writer, number)):
            return key
        session = self.read_session(writer, number)
        failure: DonjonError | None = None
        for opener in self.openers:
            try:
                key = self._open_session(session, opener)
            except (IntegrityFailure, KeyNotAvailable) as error:
                failure = error
                continue
            if key is not None:
                self._session_keys[(writer, number)] = key
                return key
        if failure is not None:
            raise failure
        msg = f"{names.session(writer, number)}: was not sealed to any key at hand"
        hint = "Use the recovery kit; `donjon keys check` shows which keys open what."
        raise KeyNotAvailable(msg, hint=hint)

    def _open_session(self, session: SessionObject, opener: Opener) -> bytes | None:
        """The key of a session, None if it has no seal for this opener."""
        name = names.session(session.writer, session.number)
        sealed = dict(session.seals).get(opener.recipient_id)
        if sealed is None:
            sealed = self.later_seal(opener.recipient_id, session.writer, session.number)
        if sealed is None:
            return None
        try:
            key = opener.open(sealed, session_info(self.vault_id, session.writer, session.number))
        except KeyNotAvailable as error:
            msg = f"{name}: its seal for {opener.recipient_id.hex()[:12]} does not open"
            hint = "Use another key; `donjon keys check` shows which keys open what."
            raise KeyNotAvailable(msg, hint=hint) from error
        if commitment(key) != session.commitment:
            msg = f"{name}: its seals do not hold the key it commits to"
            raise IntegrityFailure(msg)
        return key

    def read_session(self, writer: bytes, number: int) -> SessionObject:
        """The session object, checked. Raises ``IntegrityFailure`` if it is missing or wrong."""
        name = names.session(writer, number)
        try:
            data = fetch_object(self.store, name, ObjectKind.SESSION)
        except ObjectNotFound as error:
            msg = f"{name}: is missing, and with it the key of that session"
            raise IntegrityFailure(msg, hint="Restore it from another copy of the vault.") from error
        session = parse_object(data, ObjectKind.SESSION, SessionObject, name)
        verify_object(data, self.vault_id, self.keyring.writer(writer, name).public, name)
        if (session.writer, session.number) != (writer, number):
            msg = f"{name}: holds another session"
            raise IntegrityFailure(msg)
        if session.keyring_number > self.keyring.number:
            self.keyring.read_on(self.store)  # it may have grown since this vault was opened
        if session.keyring_number > self.keyring.number:
            msg = f"{name}: was made under a newer keyring than the store shows"
            hint = f"{names.keyring(self.keyring.number + 1)} is hidden or lost. Find out by whom."
            raise IntegrityFailure(msg, hint=hint)
        return session

    def later_seal(self, recipient: bytes, writer: bytes, number: int) -> bytes | None:
        """The key of a session sealed for a recipient that joined later, None if there is none.

        Raises ``IntegrityFailure`` for a seal that the root key did not make for exactly this.
        """
        name = names.seal(recipient, writer, number)
        try:
            data = fetch_object(self.store, name, ObjectKind.SEAL)
        except ObjectNotFound:
            return None
        seal = parse_object(data, ObjectKind.SEAL, SealObject, name)
        verify_object(data, self.vault_id, self.object.root_public, name)
        if (seal.recipient, seal.writer, seal.number) != (recipient, writer, number):
            msg = f"{name}: holds another seal"
            raise IntegrityFailure(msg)
        return seal.sealed


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


def create_vault(
    store: ObjectStore,
    vault_id: bytes,
    root: SigningKey,
    recipients: Sequence[Recipient],
    *,
    lock_s: int,
    sizes: Sizes | None = None,
    before_commit: Callable[[Vault], None] | None = None,
) -> Vault:
    """Make a vault in an empty store, with its first recipients.

    The vault object is put last and everything is locked after that, so that a failure can take back
    what was put. ``before_commit`` can certify the first writers.

    Raises ``Refused`` if there is something in the store already, ``UsageError`` for a lock that is too
    short to be of use or that the store cannot hold.
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
    vault = Vault(store, vault_object, Keyring(vault_object, digest(data)))
    vault.use_secret(VaultSecret(new_key()))
    vault.is_finished = False
    try:
        for recipient in recipients:
            add_recipient(vault, root, recipient)
        if before_commit is not None:
            before_commit(vault)
        store.put(names.VAULT, data)
        vault.is_finished = True
        if end := vault.lock_end():
            for number in range(1, vault.keyring.number + 1):
                store.extend(names.keyring(number), end)
            store.extend(names.VAULT, end)
    except BaseException:
        _take_back(vault, data)
        raise
    return vault


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


def add_recipient(vault: Vault, root: SigningKey, recipient: Recipient) -> None:
    """Certify a recipient; sessions that start from now on are sealed to it too."""
    secret = vault.secret
    sealed = recipient.seal(secret.secret, secret_info(vault.vault_id))
    vault.keyring.add(
        vault.store,
        root,
        lambda number, previous: recipient_record(recipient, secret, sealed, number, previous),
        vault.lock_end(),
    )


def open_vault(store: ObjectStore, *, root_public: bytes | None = None) -> Vault:
    """Find and check a vault. ``root_public`` is the root key that this client has pinned, if any.

    Raises ``VaultNotFound``, ``UnsupportedVersion``, ``IntegrityFailure``.
    """
    try:
        data = fetch_object(store, names.VAULT, ObjectKind.VAULT)
    except ObjectNotFound as error:
        msg = f"{store.url}: there is no vault here"
        raise VaultNotFound(msg, hint="Check the address, or make a vault with `donjon init`.") from error
    vault_object = parse_object(data, ObjectKind.VAULT, VaultObject, names.VAULT)
    vault_object.check()
    verify_object(data, vault_object.vault_id, vault_object.root_public, names.VAULT)
    if root_public is not None and vault_object.root_public != root_public:
        msg = f"{store.url}: this is another vault than the one this host knows: its root key differs"
        raise KeyNotAvailable(msg, hint="Check the address; if the vault was replaced, find out by whom.")
    keyring = Keyring(vault_object, digest(data))
    keyring.read_on(store)
    return Vault(store, vault_object, keyring)
