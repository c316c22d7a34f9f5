"""The keyring as it stands: recipients, writers and revocations, read from a chain of signed records."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from donjon.codec.digest import digest
from donjon.codec.sign import SigningKey
from donjon.core.errors import IntegrityFailure, ObjectExists, ObjectNotFound, Refused
from donjon.format import names
from donjon.format.objects import ObjectKind, pack_object, parse_object, verify_object
from donjon.format.vault import Action, KeyringRecord, VaultObject, VaultSecret
from donjon.keys.base import Recipient, recipient_id
from donjon.stores.base import ObjectStore


@dataclass(frozen=True, slots=True)
class Member:
    """A recipient with the vault secret sealed for it; its name is hidden until the secret is known."""

    recipient: Recipient
    label: bytes
    sealed_secret: bytes


@dataclass(frozen=True, slots=True)
class Writer:
    """A certified writer. ``revoked_at`` is in Unix seconds, None while it may write."""

    writer_id: bytes
    public: bytes
    label: bytes
    created_at: int
    revoked_at: int | None = None


@dataclass(slots=True)
class Keyring:
    """All records up to ``number``, applied; ``head`` is the digest of the last of them."""

    vault: VaultObject
    head: bytes
    number: int = 0
    members: dict[bytes, Member] = field(default_factory=dict)
    writers: dict[bytes, Writer] = field(default_factory=dict)

    def read_on(self, store: ObjectStore) -> None:
        """Read and check the records that are not known yet.

        Raises ``IntegrityFailure`` for a record that the root key did not sign or that breaks the chain.
        """
        while True:
            name = names.keyring(self.number + 1)
            try:
                data = store.get(name)
            except ObjectNotFound:
                return
            self.apply(data, name)

    def apply(self, data: bytes, name: str) -> None:
        """Check one record and carry it out."""
        record = parse_object(data, ObjectKind.KEYRING, KeyringRecord, name)
        verify_object(data, self.vault.vault_id, self.vault.root_public, name)
        if record.number != self.number + 1 or record.previous != self.head:
            msg = f"{name}: does not follow the record before it"
            raise IntegrityFailure(msg, hint="A record was swapped or replayed. Do not use this store.")
        self._carry_out(record, name)
        self.number = record.number
        self.head = digest(data)

    def _carry_out(self, record: KeyringRecord, name: str) -> None:
        subject = record.subject
        match record.action:
            case Action.ADD_RECIPIENT:
                if recipient_id(record.public) != subject:
                    raise _strange(name)
                recipient = Recipient(
                    subject, record.kind, "", record.public, record.created_at, record.extra
                )
                self.members[subject] = Member(recipient, record.label, record.sealed_secret)
            case Action.REMOVE_RECIPIENT:
                self.members.pop(subject, None)
            case Action.ADD_WRITER:
                if recipient_id(record.public) != subject:
                    raise _strange(name)
                self.writers[subject] = Writer(subject, record.public, record.label, record.created_at)
            case Action.REVOKE_WRITER if subject in self.writers:
                self.writers[subject] = replace(self.writers[subject], revoked_at=record.created_at)
            case _:
                raise _strange(name)

    def add(
        self,
        store: ObjectStore,
        root: SigningKey,
        make: Callable[[int, bytes], KeyringRecord],
        retain_until: int | None,
    ) -> KeyringRecord:
        """Append a record that ``make`` builds from its number and the digest of the one before it.

        Raises ``Refused`` if somebody else keeps appending at the same time.
        """
        for _ in range(8):
            self.read_on(store)
            record = make(self.number + 1, self.head)
            data = pack_object(ObjectKind.KEYRING, record, self.vault.vault_id, root)
            name = names.keyring(record.number)
            try:
                store.put(name, data, retain_until=retain_until)
            except ObjectExists:
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


def _strange(name: str) -> IntegrityFailure:
    msg = f"{name}: says something that no keyring record can say"
    return IntegrityFailure(msg, hint="It may have been written by a newer Donjon.")


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


def removal_record(
    action: Action, subject: bytes, created_at: int, number: int, previous: bytes
) -> KeyringRecord:
    """The record that removes a recipient or revokes a writer."""
    return KeyringRecord(number, previous, created_at, action, subject)


def hide(secret: VaultSecret, label: str) -> bytes:
    """A label that only holders of the vault secret can read."""
    return secret.hide_label(label, int.from_bytes(os.urandom(12), "little"))
