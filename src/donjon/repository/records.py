"""Records that change the keyring, as the root key signs them."""

from __future__ import annotations

import os

import msgspec

from donjon.core.errors import UsageError
from donjon.format.vault import Action, KeyringRecord, VaultSecret
from donjon.keys.base import Recipient, recipient_id

MAX_LABEL_BYTES = 64


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


def auditor_record(
    public: bytes, label: str, secret: VaultSecret, created_at: int, number: int, previous: bytes
) -> KeyringRecord:
    """The record that certifies an auditor."""
    record = writer_record(public, label, secret, created_at, number, previous)
    return msgspec.structs.replace(record, action=Action.ADD_AUDITOR)


def removal_record(
    action: Action, subject: bytes, created_at: int, number: int, previous: bytes
) -> KeyringRecord:
    """The record that removes a recipient or revokes somebody who signs."""
    return KeyringRecord(number, previous, created_at, action, subject)


def hide(secret: VaultSecret, label: str) -> bytes:
    """A label that only holders of the vault secret can read. Raises ``UsageError`` for an odd one."""
    check_label(label)
    return secret.hide_label(label, int.from_bytes(os.urandom(12), "little"))
