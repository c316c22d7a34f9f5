"""The envelope of every object but packs: a header, a MessagePack payload, an Ed25519 signature.

See ``docs/format.md``, "Signed objects".
"""

from __future__ import annotations

import enum
import struct
from typing import TypeVar

import msgspec

from donjon.codec.pad import padme
from donjon.codec.sign import Signer, verify
from donjon.core.errors import IntegrityFailure, UnsupportedVersion

VERSION = 1
SIGNATURE_BYTES = 64

_MAGIC = b"DNJN"
_HEADER = struct.Struct("<4sBBHI")
_DOMAIN = b"donjon/v1/object\0"
_LENGTH = struct.Struct("<Q")

T = TypeVar("T")


class ObjectKind(enum.IntEnum):
    """What a signed object holds."""

    VAULT = 1
    KEYRING = 2
    SESSION = 3
    INDEX = 4
    MANIFEST = 5
    SEAL = 6
    CHECKPOINT = 7
    CERTIFICATE = 8
    EPOCH = 9
    EVIDENCE = 10
    APPROVAL_REQUEST = 11
    APPROVER_SIGNATURE = 12
    SUCCESSION = 13
    ALLOWED_SUCCESSION = 14


#: No object is larger, so that whoever reads one can ask for this much and one byte more.
MAX_BYTES = {
    ObjectKind.VAULT: 4 << 10,
    ObjectKind.KEYRING: 64 << 10,
    ObjectKind.SESSION: 1 << 20,
    ObjectKind.INDEX: 256 << 20,
    ObjectKind.MANIFEST: 16 << 20,
    ObjectKind.SEAL: 4 << 10,
    ObjectKind.CHECKPOINT: 16 << 20,
    ObjectKind.EPOCH: 16 << 20,
    ObjectKind.CERTIFICATE: 1 << 20,
    ObjectKind.EVIDENCE: 1 << 20,
    ObjectKind.APPROVAL_REQUEST: 1 << 20,
    ObjectKind.APPROVER_SIGNATURE: 4 << 10,
    ObjectKind.SUCCESSION: 4 << 10,
    ObjectKind.ALLOWED_SUCCESSION: 16 << 10,
}


def pack_object(kind: ObjectKind, payload: msgspec.Struct, vault_id: bytes, signer: Signer) -> bytes:
    """The bytes of a signed object."""
    data = unsigned_object(kind, payload)
    return data + signer.sign(_DOMAIN + vault_id + data)


def kind_of(data: bytes) -> int:
    """The kind that the header of an object claims, 0 if it is too short to have one."""
    return data[len(_MAGIC)] if len(data) > len(_MAGIC) else 0


def unsigned_object(kind: ObjectKind, payload: msgspec.Struct) -> bytes:
    """All but the signature at the end."""
    body = msgspec.msgpack.encode(payload)
    return _HEADER.pack(_MAGIC, kind, VERSION, 0, len(body)) + body


def parse_object(data: bytes, kind: ObjectKind, payload_type: type[T], what: str) -> T:
    """The payload, **not yet verified**: use it only to learn who should have signed.

    Raises ``IntegrityFailure`` for anything that is no such object and ``UnsupportedVersion`` for one
    of a newer format; ``what`` is the object's name.
    """
    if len(data) < _HEADER.size + SIGNATURE_BYTES or len(data) > MAX_BYTES[kind]:
        msg = f"{what}: has {len(data)} bytes, which no object of its kind can have"
        raise IntegrityFailure(msg)
    magic, found_kind, version, reserved, length = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        msg = f"{what}: is not a Donjon object"
        raise IntegrityFailure(msg)
    if version != VERSION:
        msg = f"{what}: has format version {version}; this Donjon reads version {VERSION}"
        raise UnsupportedVersion(msg, hint="Install a newer Donjon.")
    if found_kind != kind or reserved or length != len(data) - _HEADER.size - SIGNATURE_BYTES:
        msg = f"{what}: its header is damaged, or it is an object of another kind"
        raise IntegrityFailure(msg)
    try:
        return msgspec.msgpack.decode(memoryview(data)[_HEADER.size : -SIGNATURE_BYTES], type=payload_type)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        msg = f"{what}: its payload cannot be read: {error}"
        raise IntegrityFailure(msg) from error


def verify_object(data: bytes, vault_id: bytes, public: bytes, what: str) -> None:
    """Raises ``IntegrityFailure`` unless the owner of ``public`` signed this object for this vault."""
    try:
        verify(public, _DOMAIN + vault_id + data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:])
    except IntegrityFailure as error:
        msg = f"{what}: its signature is wrong"
        raise IntegrityFailure(msg, hint="It was changed, damaged or put there by somebody else.") from error


def pad(plaintext: bytes, overhead_bytes: int = 0) -> bytes:
    """Length, plaintext and zeros, so that with ``overhead_bytes`` more the size is a PADMÉ size."""
    used = _LENGTH.size + len(plaintext)
    zeros = padme(used + overhead_bytes) - used - overhead_bytes
    return _LENGTH.pack(len(plaintext)) + plaintext + bytes(zeros)


def unpad(padded: bytes, what: str) -> memoryview:
    """The plaintext. Raises ``IntegrityFailure`` if the length is impossible."""
    if len(padded) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(padded)
        if length <= len(padded) - _LENGTH.size:
            return memoryview(padded)[_LENGTH.size : _LENGTH.size + length]
    msg = f"{what}: its padding is damaged"
    raise IntegrityFailure(msg)
