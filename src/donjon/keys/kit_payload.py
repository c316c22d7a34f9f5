"""The bytes of a recovery kit, whatever it is written on.

``docs/keys.md``, "The payload". Nothing here opens anything: the secret stays as it is stored. All
errors are ``KeyNotAvailable``, since a kit that cannot be read is a key that is not there.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from donjon.codec.hpke import PRIVATE_BYTES
from donjon.codec.sign import SEED_BYTES
from donjon.core.errors import IntegrityFailure, KeyNotAvailable, UnsupportedVersion
from donjon.keys.argon2id import ARGON_BYTES, TAG_BYTES, Argon

VERSION: Final = 1
VAULT_ID_BYTES: Final = 16
FINGERPRINT_BYTES: Final = 15
CHECKSUM_BYTES: Final = 8
MAX_NAME_BYTES: Final = 64
MAX_URL_BYTES: Final = 512

_FIXED: Final = struct.Struct(f"<BB{VAULT_ID_BYTES}sQ{FINGERPRINT_BYTES}s")
_HAS_ROOT: Final = 1
_PROTECTED: Final = 2


@dataclass(frozen=True, slots=True)
class Head:
    """What a kit tells without its passphrase. ``argon`` is None for a kit that has none.

    ``created_at`` is in Unix seconds; ``fingerprint`` has 15 bytes.
    """

    vault_id: bytes
    created_at: int
    fingerprint: bytes
    vault_name: str
    vault_url: str
    has_root: bool
    argon: Argon | None

    @property
    def secret_bytes(self) -> int:
        """Length of the stored secret, encrypted or not."""
        plain = PRIVATE_BYTES + (SEED_BYTES if self.has_root else 0)
        return plain + (TAG_BYTES if self.argon else 0)

    def encode(self) -> bytes:
        """Everything in the payload that comes before the secret; also what AES-GCM authenticates."""
        name, url = self.vault_name.encode(), self.vault_url.encode()
        flags = (_HAS_ROOT if self.has_root else 0) | (_PROTECTED if self.argon else 0)
        fixed = _FIXED.pack(VERSION, flags, self.vault_id, self.created_at, self.fingerprint)
        texts = struct.pack("<B", len(name)) + name + struct.pack("<H", len(url)) + url
        return fixed + texts + (self.argon.encode() if self.argon else b"")


def fingerprint(public: bytes, root_public: bytes | None) -> bytes:
    """The 15-byte fingerprint of a kit: its public key (1216 bytes) and the root's, if it holds that."""
    return blake3(public + (root_public or b"")).digest(FINGERPRINT_BYTES)


def show_fingerprint(value: bytes) -> str:
    """Six groups of four characters, to be read aloud."""
    text = base64.b32encode(value).decode()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def encode(head: Head, secret: bytes) -> bytes:
    """The payload with its checksum."""
    body = head.encode() + secret
    return body + _checksum(body)


def decode(payload: bytes, what: str) -> tuple[Head, bytes]:
    """The head and the stored secret of a payload that is whole.

    Raises ``KeyNotAvailable`` that names ``what`` for damage, ``UnsupportedVersion`` for a newer kit.
    """
    if len(payload) < _FIXED.size + CHECKSUM_BYTES:
        raise damaged(what, f"it has only {len(payload)} bytes")
    body, checksum = payload[:-CHECKSUM_BYTES], payload[-CHECKSUM_BYTES:]
    if checksum != _checksum(body):
        raise damaged(what, "its checksum does not match")
    head, rest = decode_head(body, what)
    if len(rest) != head.secret_bytes:
        raise damaged(what, f"its secret has {len(rest)} bytes instead of {head.secret_bytes}")
    return head, rest


def damaged(what: str, reason: str) -> KeyNotAvailable:
    """The error for a kit that cannot be read."""
    return KeyNotAvailable(
        f"{what}: damaged or mistyped: {reason}",
        hint="Compare it with the paper copy or its QR code, or use another kit of this vault.",
    )


def newer(what: str, found: str) -> UnsupportedVersion:
    """The error for a kit of a later format."""
    return UnsupportedVersion(
        f"{what}: is a kit of {found}; this Donjon reads version {VERSION}", hint="Install a newer Donjon."
    )


def decode_head(body: bytes, what: str) -> tuple[Head, bytes]:
    """The head at the start of ``body``, and what follows it. Raises like ``decode``."""
    if len(body) < _FIXED.size:
        raise damaged(what, f"it has only {len(body)} bytes")
    version, flags, vault_id, created_at, mark = _FIXED.unpack_from(body)
    if version != VERSION or flags & ~(_HAS_ROOT | _PROTECTED):
        raise newer(what, f"version {version} with flags {flags:#04x}")
    name, rest = _text(body[_FIXED.size :], "<B", MAX_NAME_BYTES, what)
    url, rest = _text(rest, "<H", MAX_URL_BYTES, what)
    argon = None
    if flags & _PROTECTED:
        if len(rest) < ARGON_BYTES:
            raise damaged(what, "it ends within its Argon2 parameters")
        try:
            argon = Argon.decode(rest[:ARGON_BYTES])
        except IntegrityFailure as error:
            raise damaged(what, error.message) from error
        rest = rest[ARGON_BYTES:]
    return Head(vault_id, created_at, mark, name, url, bool(flags & _HAS_ROOT), argon), rest


def _text(data: bytes, length_format: str, limit_bytes: int, what: str) -> tuple[str, bytes]:
    start = struct.calcsize(length_format)
    length = struct.unpack_from(length_format, data)[0] if len(data) >= start else 0
    end = start + length
    if not 0 < length <= limit_bytes or end > len(data):
        raise damaged(what, "the length of its name or address is impossible")
    try:
        return data[start:end].decode(), data[end:]
    except UnicodeDecodeError as error:
        raise damaged(what, "its name or address is not UTF-8") from error


def _checksum(body: bytes) -> bytes:
    return blake3(body).digest(CHECKSUM_BYTES)
