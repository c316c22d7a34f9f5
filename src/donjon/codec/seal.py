"""AES-256-GCM with nonces that are numbers: whoever holds a key never uses a number twice.

Source: NIST SP 800-38D, deterministic construction of 96-bit nonces (section 8.2.1).
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from donjon.core.errors import IntegrityFailure

Buffer = bytes | bytearray | memoryview

KEY_BYTES = 32
TAG_BYTES = 16


def new_key() -> bytes:
    """Fresh random 32 bytes."""
    return os.urandom(KEY_BYTES)


class Sealer:
    """One key. Every number may be used for sealing once in the life of the key."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def __repr__(self) -> str:
        return "Sealer(...)"

    def seal(self, number: int, plaintext: Buffer) -> bytes:
        """Ciphertext and tag, ``TAG_BYTES`` longer than the plaintext."""
        return self._aead.encrypt(_nonce(number), plaintext, None)

    def seal_into(self, number: int, plaintext: Buffer, out: memoryview) -> None:
        """Like ``seal``, into a buffer of exactly the right length."""
        self._aead.encrypt_into(_nonce(number), plaintext, None, out)

    def open(self, number: int, sealed: Buffer, what: str) -> bytes:
        """The plaintext. Raises ``IntegrityFailure`` that names ``what`` if a bit differs."""
        if len(sealed) < TAG_BYTES:
            raise _broken(what)
        try:
            return self._aead.decrypt(_nonce(number), sealed, None)
        except InvalidTag as error:
            raise _broken(what) from error

    def open_into(self, number: int, sealed: Buffer, out: memoryview, what: str) -> None:
        """Like ``open``, into a buffer of exactly the right length."""
        try:
            self._aead.decrypt_into(_nonce(number), sealed, None, out)
        except InvalidTag as error:
            raise _broken(what) from error


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "little")


def _broken(what: str) -> IntegrityFailure:
    return IntegrityFailure(
        f"{what}: does not open with its key, so it was changed or damaged",
        hint="Run `donjon verify` to learn what is affected.",
    )
