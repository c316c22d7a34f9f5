"""A recipient whose private key lies in the vault, encrypted under a passphrase.

``docs/keys.md``, "The passphrase recipient", has the bytes.
"""

from __future__ import annotations

from typing import Final

import msgspec

from donjon.codec.hpke import PRIVATE_BYTES, PrivateKey
from donjon.core.errors import IntegrityFailure, UnsupportedVersion, UsageError
from donjon.keys.argon2id import (
    DEFAULT_COST,
    TAG_BYTES,
    Argon,
    Cost,
    decrypt,
    encrypt,
    fresh,
    passphrase_from_file,
)
from donjon.keys.base import PASSPHRASE, Opener, PrivateKeyOpener, Recipient, recipient_id

__all__ = ["DEFAULT_COST", "Cost", "create", "passphrase_from_file", "unlock"]

_VERSION: Final = 1
_SEALED_BYTES: Final = PRIVATE_BYTES + TAG_BYTES
#: Longer than any extra of version 1, so that hostile lengths end here.
_MAX_EXTRA_BYTES: Final = 1024
_DOMAIN: Final = b"donjon/v1/passphrase-recipient\0"


class _Extra(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The ``extra`` bytes of a passphrase recipient."""

    version: int
    memory_kib: int
    passes: int
    lanes: int
    salt: bytes
    sealed: bytes


def create(name: str, passphrase: str, *, created_at: int, cost: Cost = DEFAULT_COST) -> Recipient:
    """A new recipient that ``passphrase`` opens. ``created_at`` is in Unix seconds.

    Raises ``UsageError`` for an empty passphrase or a cost out of bounds.
    """
    private = PrivateKey.generate()
    public = private.public.to_bytes()
    argon = fresh(cost)
    sealed = encrypt(passphrase, argon, _aad(public, argon), private.to_bytes())
    extra = _Extra(_VERSION, cost.memory_kib, cost.passes, cost.lanes, argon.salt, sealed)
    return Recipient(
        recipient_id=recipient_id(public),
        kind=PASSPHRASE,
        name=name,
        public=public,
        created_at=created_at,
        extra=msgspec.msgpack.encode(extra),
    )


def unlock(recipient: Recipient, passphrase: str) -> Opener:
    """The opener of a passphrase recipient. Takes about a second and the memory that its cost names.

    Raises ``KeyNotAvailable`` for a wrong passphrase, ``IntegrityFailure`` for a recipient that was
    never valid, ``UnsupportedVersion`` for a newer one, ``UsageError`` for an empty passphrase.
    """
    what = f"recipient {recipient.recipient_id.hex()}"
    if recipient.kind != PASSPHRASE:
        msg = f"{what}: is opened by a {recipient.kind}, not by a passphrase"
        raise UsageError(msg)
    argon, sealed = _parse(recipient.extra, what)
    secret = decrypt(passphrase, argon, _aad(recipient.public, argon), sealed, what=what)
    opener = PrivateKeyOpener(PrivateKey.from_bytes(secret))
    if not opener.recipient_id == recipient.recipient_id == recipient_id(recipient.public):
        msg = f"{what}: holds the private key of somebody else"
        raise IntegrityFailure(msg)
    return opener


def _parse(extra: bytes, what: str) -> tuple[Argon, bytes]:
    if len(extra) > _MAX_EXTRA_BYTES:
        msg = f"{what}: has {len(extra)} bytes of key material, more than any version"
        raise IntegrityFailure(msg)
    try:
        version = msgspec.msgpack.decode(extra, type=list[msgspec.Raw])[0]
        number = msgspec.msgpack.decode(version, type=int)
        if number > _VERSION:
            msg = f"{what}: its key material has version {number}; this Donjon reads version {_VERSION}"
            raise UnsupportedVersion(msg, hint="Install a newer Donjon.")
        fields = msgspec.msgpack.decode(extra, type=_Extra)
    except (msgspec.MsgspecError, IndexError, RecursionError, ValueError) as error:
        msg = f"{what}: its key material cannot be read"
        raise IntegrityFailure(msg) from error
    argon = Argon(Cost(fields.memory_kib, fields.passes, fields.lanes), fields.salt)
    argon.check()
    if fields.version != _VERSION or len(fields.sealed) != _SEALED_BYTES:
        msg = f"{what}: its key material has the wrong version or length"
        raise IntegrityFailure(msg)
    return argon, fields.sealed


def _aad(public: bytes, argon: Argon) -> bytes:
    return _DOMAIN + public + argon.encode()
