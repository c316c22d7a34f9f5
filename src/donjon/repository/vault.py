"""An open vault: where it is, who may do what in it, and the keys at hand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from donjon.codec.digest import digest
from donjon.codec.sign import SigningKey
from donjon.core.clock import SECONDS_PER_DAY
from donjon.core.errors import (
    DonjonError,
    IntegrityFailure,
    KeyNotAvailable,
    KeyServiceUnavailable,
    ObjectHidden,
    ObjectNotFound,
    PermissionMissing,
    VaultNotFound,
)
from donjon.format import names
from donjon.format.objects import ObjectKind, parse_object, verify_object
from donjon.format.pack import Trailer, verify_trailer
from donjon.format.session import SealObject, SessionObject, commitment
from donjon.format.vault import VaultObject, VaultSecret, secret_info, session_info
from donjon.keys.base import Connect, Opener, Recipient, no_services
from donjon.repository.fetch import fetch_object
from donjon.repository.keyring import Keyring
from donjon.repository.records import recipient_record
from donjon.repository.successions import stored_at
from donjon.stores.base import ObjectStore

if TYPE_CHECKING:
    from donjon.repository.checkpoints import Signed
    from donjon.repository.points import Point

#: A writer relies on a pack only if its lock outlasts the longest backup by this much.
LOCK_MARGIN_S = SECONDS_PER_DAY

#: See ``Vault.watch``; the checkpoint is None if the vault has none that counts.
Watch = Callable[["Sequence[Point]", "Signed | None"], list[IntegrityFailure]]


def nothing_seen(points: Sequence[Point], newest: Signed | None) -> list[IntegrityFailure]:
    """The ``Watch`` of a client that remembers nothing."""
    return []


class Vault:
    """A vault that was found and whose root key is the one expected."""

    def __init__(
        self, store: ObjectStore, vault: VaultObject, keyring: Keyring, connect: Connect = no_services
    ) -> None:
        """``connect`` reaches the key services of recipients."""
        self.store = store
        self.connect = connect
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

    def seal(self, recipient: Recipient, secret: bytes, info: bytes) -> bytes:
        """``secret`` (32 bytes) for a recipient; a key service is asked once.

        Raises what ``KeyService`` raises: nobody who is to open a backup is left out unseen.
        """
        if recipient.is_service:
            return self.connect(recipient).seal(secret, info)
        return recipient.seal(secret, info)

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

    def verify_by_writer(self, data: bytes, writer: bytes, name: str) -> int:
        """The number of the key with which a writer signed an object.

        Raises ``IntegrityFailure`` if it did not, or if no such writer was certified.
        """
        first = self.keyring.writer(writer, name).public
        return self.keyring.successions.verify(
            self.store, writer, first, lambda public: verify_object(data, self.vault_id, public, name)
        )

    def verify_pack(self, trailer: Trailer, name: str) -> None:
        """Raises ``IntegrityFailure`` unless the writer that it names signed the trailer of a pack."""
        first = self.keyring.writer(trailer.writer, name).public
        self.keyring.successions.verify(
            self.store,
            trailer.writer,
            first,
            lambda public: verify_trailer(trailer, self.vault_id, public, name),
        )

    def check_timely(self, name: str, writer: bytes) -> None:
        """Raises ``IntegrityFailure`` if an index object was signed by a key that had been succeeded for
        longer than a backup takes: a thief may have it, and no writer relies on what it says.
        """
        chain = self.keyring.successions.of(writer)
        if not chain:
            return
        number = self.verify_by_writer(fetch_object(self.store, name, ObjectKind.INDEX), writer, name)
        if number < len(chain) and self._is_too_late(writer, number, self.store.head(name).stored_at):
            msg = f"{name}: was signed by a key that another had taken over from"
            raise IntegrityFailure(msg, hint="Find out who holds an old credential of this host.")

    def _is_too_late(self, writer: bytes, number: int, time: int) -> bool:
        """Whether an index object of key ``number`` came when that key did not count any more.

        If approvers ended it, all that came before the last point that they left to it counts, for a
        session puts its manifest last of all.
        """
        successions = self.keyring.successions
        if (last := successions.last_counting(writer, number)) is not None:
            until = stored_at(self.store, names.manifest(writer, last)) if last else None
            if until is None or time > until:
                return True
        return successions.is_over(writer, number, time)

    def read_successions(self) -> None:
        """Learn when keys of writers were succeeded, before points are judged by it."""
        firsts = {writer.writer_id: writer.public for writer in self.keyring.writers.values()}
        self.keyring.successions.read_all(self.store, firsts)

    def session_key(self, writer: bytes, number: int) -> bytes:
        """The data key of a session.

        Raises ``KeyNotAvailable`` if no opener at hand opens it, ``PermissionMissing`` if a key service
        refuses to, ``IntegrityFailure`` if the session object is missing or not its writer's.
        """
        if key := self._session_keys.get((writer, number)):
            return key
        session = self.read_session(writer, number)
        failure: DonjonError | None = None
        for opener in tuple(self.openers):
            try:
                key = self.open_session(session, opener)
            except (IntegrityFailure, KeyNotAvailable, PermissionMissing) as error:
                failure = error
                if isinstance(error, KeyServiceUnavailable):
                    self._ask_last(opener)  # for it was waited for long
                continue
            if key is not None:
                self._session_keys[(writer, number)] = key
                return key
        if failure is not None:
            raise failure
        msg = f"{names.session(writer, number)}: was not sealed to any key at hand"
        hint = "Use the recovery kit; `donjon keys check` shows which keys open what."
        raise KeyNotAvailable(msg, hint=hint)

    def _ask_last(self, opener: Opener) -> None:
        with contextlib.suppress(ValueError):  # another thread is at it, too
            self.openers.remove(opener)
            self.openers.append(opener)

    def open_session(self, session: SessionObject, opener: Opener) -> bytes | None:
        """The key of a session, None if it has no seal for this opener.

        Raises ``KeyNotAvailable`` and ``PermissionMissing`` if the seal does not open, ``IntegrityFailure``
        if it holds another key than the session commits to.
        """
        name = names.session(session.writer, session.number)
        sealed = dict(session.seals).get(opener.recipient_id)
        if sealed is None:
            sealed = self.later_seal(opener.recipient_id, session.writer, session.number)
        if sealed is None:
            return None
        try:
            key = opener.open(sealed, session_info(self.vault_id, session.writer, session.number))
        except KeyNotAvailable as error:
            msg = f"{name}: its seal for {opener.recipient_id.hex()[:12]} does not open: {error.message}"
            hint = error.hint or "Use another key; `donjon keys check` shows which keys open what."
            raise type(error)(msg, hint=hint) from error
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
        return self.parse_session(name, data)

    def parse_session(self, name: str, data: bytes) -> SessionObject:
        """A session object from its bytes. Raises ``IntegrityFailure``."""
        session = parse_object(data, ObjectKind.SESSION, SessionObject, name)
        self.verify_by_writer(data, session.writer, name)
        if name != names.session(session.writer, session.number):
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
        return self.parse_seal(name, data).sealed

    def parse_seal(self, name: str, data: bytes) -> SealObject:
        """A later seal from its bytes. Raises ``IntegrityFailure``."""
        seal = parse_object(data, ObjectKind.SEAL, SealObject, name)
        verify_object(data, self.vault_id, self.object.root_public, name)
        if name != names.seal(seal.recipient, seal.writer, seal.number):
            msg = f"{name}: holds another seal"
            raise IntegrityFailure(msg)
        return seal


def add_recipient(vault: Vault, root: SigningKey, recipient: Recipient) -> None:
    """Certify a recipient; sessions that start from now on are sealed to it too."""
    secret = vault.secret
    sealed = vault.seal(recipient, secret.secret, secret_info(vault.vault_id))
    vault.keyring.add(
        vault.store,
        root,
        lambda number, previous: recipient_record(recipient, secret, sealed, number, previous),
        vault.lock_end(),
    )


def open_vault(
    store: ObjectStore, *, root_public: bytes | None = None, connect: Connect = no_services
) -> Vault:
    """Find and check a vault. ``root_public`` is the root key that this client has pinned, if any.

    ``connect`` reaches the key services of its recipients.

    Raises ``VaultNotFound``, ``UnsupportedVersion``, ``IntegrityFailure``.
    """
    try:
        data = fetch_object(store, names.VAULT, ObjectKind.VAULT)
    except ObjectHidden:
        raise  # there is one, below a delete marker
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
    return Vault(store, vault_object, keyring, connect)
