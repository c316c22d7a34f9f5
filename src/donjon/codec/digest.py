"""BLAKE3: digests of stored bytes, keyed ids of plaintext, and keys derived from keys.

Source: the BLAKE3 specification, sections 2.3 (keyed hash) and 2.3 (key derivation).
"""

from __future__ import annotations

from blake3 import blake3

DIGEST_BYTES = 32
ID_BYTES = 16

Buffer = bytes | bytearray | memoryview


def digest(data: Buffer) -> bytes:
    """The 32-byte digest of stored bytes."""
    return blake3(data).digest()


def short_id(public: Buffer) -> bytes:
    """The 16-byte id of a public key."""
    return blake3(public).digest(ID_BYTES)


def chunk_id(key: bytes, plaintext: Buffer) -> bytes:
    """The 32-byte id of a chunk: it tells nothing about the plaintext to those without ``key``."""
    return blake3(plaintext, key=key).digest()


def derive(context: str, secret: bytes, length: int = 32) -> bytes:
    """A key for one purpose. ``context`` is a constant that names the purpose."""
    return blake3(secret, derive_key_context=context).digest(length)
