"""The keyring as it stands: recipients, writers and revocations, read from a chain of signed records."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec

from donjon.codec.digest import digest, short_id
from donjon.codec.hpke import OVERHEAD_BYTES
from donjon.codec.hpke import PUBLIC_BYTES as HPKE_BYTES
from donjon.codec.seal import KEY_BYTES
from donjon.codec.sign import PUBLIC_BYTES as SIGNER_BYTES
from donjon.codec.sign import SigningKey
from donjon.core.errors import IntegrityFailure, ObjectExists, ObjectNotFound, Refused, UsageError
from donjon.format import names
from donjon.format.objects import ObjectKind, pack_object, parse_object, verify_object
from donjon.format.vault import Action, KeyringRecord, VaultObject, VaultSecret
from donjon.keys.base import KIT, PASSPHRASE, Recipient, recipient_id
from donjon.repository.fetch import fetch_object
from donjon.stores.base import ObjectStore

MAX_LABEL_BYTES = 64
#: Every session object holds a seal of 1.2 kB for each of them.
MAX_RECIPIENTS = 256

_KINDS = (KIT, PASSPHRASE)
_ADDING = (Action.ADD_RECIPIENT, Action.ADD_WRITER, Action.ADD_CUSTODIAN)
_SEALED_BYTES = KEY_BYTES + OVERHEAD_BYTES
_HIDDEN_LABEL_BYTES = 12 + MAX_LABEL_BYTES + 16
_MAX_EXTRA_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Member:
    """A recipient with the vault secret sealed for it; its name is hidden until the secret is known."""

    recipient: Recipient
    label: bytes
    sealed_secret: bytes


@dataclass(frozen=True, slots=True)
class Writer:
    """A certified writer, or custodian. ``revoked_at`` is in Unix seconds, None while it may sign."""

    writer_id: bytes
    public: bytes
    label: bytes
    created_at: int
    revoked_at: int | None = None


def vault_id_of(root_public: bytes) -> bytes:
    """The id of the vault with this root key: the start of its BLAKE3 digest.

    So whatever names a vault by its id, such as a kit without the root key, names its root key too.
    """
    return short_id(root_public)


def put_after_revocation(stored_at: int, writer: Writer) -> bool:
    """Whether an object of this writer came to the store after the writer was revoked.

    ``stored_at`` is the time that the store stamped, so that no clock of a thief counts. What came in
    the second of the revocation itself counts as before: the record was put after that second began.
    """
    return writer.revoked_at is not None and stored_at > writer.revoked_at


@dataclass(slots=True)
class Keyring:
    """All records up to ``number``, applied; ``head`` is the digest of the last of them."""

    vault: VaultObject
    head: bytes
    number: int = 0
    members: dict[bytes, Member] = field(default_factory=dict)
    writers: dict[bytes, Writer] = field(default_factory=dict)
    custodians: dict[bytes, Writer] = field(default_factory=dict)
    _heads: list[bytes] = field(default_factory=list, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._heads.append(self.head)

    def read_on(self, store: ObjectStore) -> None:
        """Read and check the records that are not known yet.

        Raises ``IntegrityFailure`` for a record that the root key did not sign or that breaks the chain.
        """
        with self._lock:
            while True:
                name = names.keyring(self.number + 1)
                try:
                    data = fetch_object(store, name, ObjectKind.KEYRING)
                except ObjectNotFound:
                    return
                self.apply(data, name)

    def apply(self, data: bytes, name: str) -> None:
        """Check one record and carry it out. Raises ``IntegrityFailure`` that names it."""
        record = parse_object(data, ObjectKind.KEYRING, KeyringRecord, name)
        verify_object(data, self.vault.vault_id, self.vault.root_public, name)
        if record.number != self.number + 1 or record.previous != self.head:
            msg = f"{name}: does not follow the record before it"
            raise IntegrityFailure(msg, hint="A record was swapped or replayed. Do not use this store.")
        self._check(record, name)
        self._carry_out(record)
        self.number = record.number
        self.head = digest(data)
        self._heads.append(self.head)

    def require(self, number: int, head: bytes) -> None:
        """Check that this keyring still contains record ``number``, whose digest was ``head``.

        Raises ``IntegrityFailure`` if the store shows an older keyring or another history.
        """
        if self.number < number:
            msg = f"{names.keyring(self.number + 1)}: is missing: the keyring once went up to record {number}"
            hint = "Somebody hides a change, such as a revocation. Do not use this store before you know why."
            raise IntegrityFailure(msg, hint=hint)
        if self._heads[number] != head:
            msg = f"{names.keyring(number) if number else names.VAULT}: is another than the one seen before"
            raise IntegrityFailure(
                msg, hint="The keyring was forked, which takes the root key. Find out who did it."
            )

    def _check(self, record: KeyringRecord, name: str) -> None:
        """Raises ``IntegrityFailure`` unless the record can be carried out here."""
        subject = record.subject
        match record.action:
            case Action.ADD_RECIPIENT:
                good = (
                    record.kind in _KINDS
                    and len(record.public) == HPKE_BYTES
                    and len(record.sealed_secret) == _SEALED_BYTES
                    and len(record.extra) <= _MAX_EXTRA_BYTES
                    and subject not in self.members
                    and len(self.members) < MAX_RECIPIENTS
                )
            case Action.ADD_WRITER | Action.ADD_CUSTODIAN:  # a revocation is for ever
                known = subject in self.writers or subject in self.custodians
                good = len(record.public) == SIGNER_BYTES and not known
            case Action.REMOVE_RECIPIENT:
                good = subject in self.members and len(self.members) > 1
            case Action.REVOKE_WRITER:
                good = subject in self.writers
            case Action.REVOKE_CUSTODIAN:
                good = subject in self.custodians
            case _:
                good = False
        if record.action in _ADDING:
            fits = recipient_id(record.public) == subject and len(record.label) == _HIDDEN_LABEL_BYTES
            good = good and fits
        if not good:
            msg = f"{name}: says something that no keyring record can say"
            raise IntegrityFailure(msg, hint="It may have been written by a newer Donjon.")

    def _carry_out(self, record: KeyringRecord) -> None:
        subject = record.subject
        match record.action:
            case Action.ADD_RECIPIENT:
                recipient = Recipient(
                    subject, record.kind, "", record.public, record.created_at, record.extra
                )
                self.members[subject] = Member(recipient, record.label, record.sealed_secret)
            case Action.REMOVE_RECIPIENT:
                del self.members[subject]
            case Action.ADD_WRITER:
                self.writers[subject] = Writer(subject, record.public, record.label, record.created_at)
            case Action.REVOKE_WRITER:  # the first one counts: a later one must not whitewash anything
                _revoke(self.writers, record)
            case Action.ADD_CUSTODIAN:
                self.custodians[subject] = Writer(subject, record.public, record.label, record.created_at)
            case Action.REVOKE_CUSTODIAN:
                _revoke(self.custodians, record)

    def add(
        self,
        store: ObjectStore,
        root: SigningKey,
        make: Callable[[int, bytes], KeyringRecord],
        retain_until: int | None,
    ) -> KeyringRecord:
        """Append a record that ``make`` builds from its number and the digest of the one before it.

        ``make`` is called again when somebody else was first, so it can look at the keyring as it is by
        then. A record that readers would refuse is never put. Raises ``Refused`` if somebody else keeps
        appending at the same time.
        """
        for _ in range(8):
            self.read_on(store)
            record = make(self.number + 1, self.head)
            data = pack_object(ObjectKind.KEYRING, record, self.vault.vault_id, root)
            name = names.keyring(record.number)
            self._check(record, name)
            try:
                store.put(name, data, retain_until=retain_until)
            except ObjectExists:
                if (
                    fetch_object(store, name, ObjectKind.KEYRING) != data
                ):  # else only the reply to our put was lost
                    continue
            self.apply(data, name)
            return record
        msg = "keyring: somebody else is changing it at the same time"
        raise Refused(msg, hint="Wait a moment and run the command again.")

    def writer(self, writer_id: bytes, what: str) -> Writer:
        """The writer that made ``what``. Raises ``IntegrityFailure`` if no such writer was certified."""
        try:
            return self.writers[writer_id]
        except KeyError:
            msg = f"{what}: was made by {writer_id.hex()[:16]}, which no keyring record certifies"
            raise IntegrityFailure(msg) from None

    def custodian(self, custodian_id: bytes, what: str) -> Writer:
        """The custodian that signed ``what``. Raises ``IntegrityFailure`` if there was never such a one."""
        try:
            return self.custodians[custodian_id]
        except KeyError:
            msg = f"{what}: was signed by {custodian_id.hex()[:16]}, which no keyring record certifies"
            hint = "It is forged, or the store hides the record that certifies this custodian."
            raise IntegrityFailure(msg, hint=hint) from None


def _revoke(signers: dict[bytes, Writer], record: KeyringRecord) -> None:
    if signers[record.subject].revoked_at is None:
        signers[record.subject] = replace(signers[record.subject], revoked_at=record.created_at)


def check_label(label: str) -> None:
    """Raises ``UsageError`` for a name of a recipient or writer that could not be shown or hidden."""
    size = len(label.encode(errors="replace"))
    if not label or label != label.strip() or not label.isprintable() or size > MAX_LABEL_BYTES:
        msg = f"{label!r} cannot be the name of a key or a writer"
        raise UsageError(msg, hint=f"Use 1 to {MAX_LABEL_BYTES} bytes of printable text.")


def recipient_record(
    recipient: Recipient, secret: VaultSecret, sealed_secret: bytes, number: int, previous: bytes
) -> KeyringRecord:
    """The record that adds a recipient."""
    return KeyringRecord(
        number,
        previous,
        recipient.created_at,
        Action.ADD_RECIPIENT,
        recipient.recipient_id,
        recipient.kind,
        hide(secret, recipient.name),
        recipient.public,
        recipient.extra,
        sealed_secret,
    )


def writer_record(
    public: bytes, label: str, secret: VaultSecret, created_at: int, number: int, previous: bytes
) -> KeyringRecord:
    """The record that certifies a writer."""
    return KeyringRecord(
        number,
        previous,
        created_at,
        Action.ADD_WRITER,
        recipient_id(public),
        label=hide(secret, label),
        public=public,
    )


def custodian_record(
    public: bytes, label: str, secret: VaultSecret, created_at: int, number: int, previous: bytes
) -> KeyringRecord:
    """The record that certifies a custodian."""
    record = writer_record(public, label, secret, created_at, number, previous)
    return msgspec.structs.replace(record, action=Action.ADD_CUSTODIAN)


def removal_record(
    action: Action, subject: bytes, created_at: int, number: int, previous: bytes
) -> KeyringRecord:
    """The record that removes a recipient or revokes a writer or a custodian."""
    return KeyringRecord(number, previous, created_at, action, subject)


def hide(secret: VaultSecret, label: str) -> bytes:
    """A label that only holders of the vault secret can read. Raises ``UsageError`` for an odd one."""
    check_label(label)
    return secret.hide_label(label, int.from_bytes(os.urandom(12), "little"))
