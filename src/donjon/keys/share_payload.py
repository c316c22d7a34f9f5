"""The part of a share that is the same for all shares of a set: the kit, sealed with the key that is shared.

``docs/keys.md``, "Shares of a kit", has the bytes. All errors are ``KeyNotAvailable``, since a share that
cannot be read is a key that is not there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from donjon.core.errors import KeyNotAvailable, UnsupportedVersion
from donjon.keys import kit_payload
from donjon.keys.argon2id import TAG_BYTES
from donjon.keys.kit_payload import CHECKSUM_BYTES, Head, damaged

VERSION: Final = 1
#: The key that is shared: 32 fresh bytes, the longer of the two usual lengths of SLIP-39.
KEY_BYTES: Final = 32
#: SLIP-39 has room for this many.
MOST_SHARES: Final = 16
FEWEST_NEEDED: Final = 2

_FIXED: Final = struct.Struct("<BBHBBQ")
_IDENTIFIERS: Final = 1 << 15
_DOMAIN: Final = b"donjon/v1/recovery-share\0"
#: The key is fresh and encrypts one message only, so the nonce may be constant.
_NONCE: Final = bytes(12)


@dataclass(frozen=True, slots=True)
class ShareSet:
    """What all shares of one split have in common; nothing here is secret.

    ``identifier`` is the 15-bit one of SLIP-39, ``needed`` of ``count`` shares make the kit, ``split_at`` is
    in Unix seconds, ``head`` is that of the kit, ``sealed`` its secret under the key that is shared.
    """

    identifier: int
    needed: int
    count: int
    split_at: int
    head: Head
    sealed: bytes

    def encode(self) -> bytes:
        """The payload with its checksum."""
        body = self.front() + self.sealed
        return body + _checksum(body)

    def open(self, key: bytes) -> bytes:
        """The payload of the kit. Raises ``KeyNotAvailable`` if ``key`` is not the one that was shared."""
        try:
            secret = AESGCM(key).decrypt(_NONCE, self.sealed, _DOMAIN + self.front())
        except (InvalidTag, ValueError) as error:
            msg = "the shares do not open the kit that is sealed on them"
            raise KeyNotAvailable(
                msg, hint="One of them was changed. Use other shares of this set."
            ) from error
        return kit_payload.encode(self.head, secret)

    def front(self) -> bytes:
        """All that comes before the sealed secret; also what AES-GCM authenticates."""
        fixed = _FIXED.pack(VERSION, 0, self.identifier, self.needed, self.count, self.split_at)
        return fixed + self.head.encode()


def seal(payload: bytes, key: bytes, *, identifier: int, needed: int, count: int, split_at: int) -> ShareSet:
    """The set for the payload of a kit, whole and as it is. ``key`` must be fresh."""
    head, secret = kit_payload.decode(payload, "recovery kit")
    front = ShareSet(identifier, needed, count, split_at, head, b"")
    sealed = AESGCM(key).encrypt(_NONCE, secret, _DOMAIN + front.front())
    return ShareSet(identifier, needed, count, split_at, head, sealed)


def decode(payload: bytes, what: str) -> ShareSet:
    """The set of a payload that is whole.

    Raises ``KeyNotAvailable`` that names ``what`` for damage, ``UnsupportedVersion`` for a newer share.
    """
    if len(payload) < _FIXED.size + CHECKSUM_BYTES:
        raise damaged(what, f"its sealed kit has only {len(payload)} bytes")
    body, checksum = payload[:-CHECKSUM_BYTES], payload[-CHECKSUM_BYTES:]
    if checksum != _checksum(body):
        raise damaged(what, "the checksum of its sealed kit does not match")
    version, flags, identifier, needed, count, split_at = _FIXED.unpack_from(body)
    if version != VERSION or flags:
        raise newer(what, f"version {version} with flags {flags:#04x}")
    if not (FEWEST_NEEDED <= needed <= count <= MOST_SHARES and identifier < _IDENTIFIERS):
        raise damaged(what, f"it cannot be one of {count} shares of which {needed} are needed")
    head, sealed = kit_payload.decode_head(body[_FIXED.size :], what)
    if len(sealed) != head.secret_bytes + TAG_BYTES:
        raise damaged(what, f"its sealed kit has {len(sealed)} bytes of secret")
    return ShareSet(identifier, needed, count, split_at, head, sealed)


def size_of(start: bytes) -> int | None:
    """How many bytes the sealed kit has that starts so; None while too little of it is there to tell."""
    try:
        head, _ = kit_payload.decode_head(start[_FIXED.size :], "sealed kit")
    except (KeyNotAvailable, UnsupportedVersion):
        return None
    return _FIXED.size + len(head.encode()) + head.secret_bytes + TAG_BYTES + CHECKSUM_BYTES


def newer(what: str, found: str) -> UnsupportedVersion:
    """The error for a share of a later format."""
    return UnsupportedVersion(
        f"{what}: is a share of {found}; this Donjon reads version {VERSION}", hint="Install a newer Donjon."
    )


def _checksum(body: bytes) -> bytes:
    return blake3(body).digest(CHECKSUM_BYTES)
