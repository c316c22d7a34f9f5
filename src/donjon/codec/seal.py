"""AES-256-GCM: frames under numbers that their session never repeats, all else in boxes.

Source: NIST SP 800-38D, deterministic construction of 96-bit nonces (section 8.2.1) for numbers, and
random nonces (section 8.2.2) for boxes. Keys of boxes are derived from a place in the vault, and a store
that rolls back or forks the vault can make a place come twice; so no number would be safe there.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from donjon.core.errors import IntegrityFailure

Buffer = bytes | bytearray | memoryview

KEY_BYTES = 32
TAG_BYTES = 16
NONCE_BYTES = 12
#: What a box adds: a random nonce in front, a tag at the end.
BOX_BYTES = NONCE_BYTES + TAG_BYTES


def new_key() -> bytes:
    """Fresh random 32 bytes."""
    return os.urandom(KEY_BYTES)


class Sealer:
    """One key, either for numbers, each of them once in the life of the key, or for boxes."""

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

    def box(self, plaintext: Buffer) -> bytes:
        """A random nonce, ciphertext and tag: ``BOX_BYTES`` longer than the plaintext."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plaintext, None)

    def open_box(self, box: Buffer, what: str) -> bytes:
        """The plaintext. Raises ``IntegrityFailure`` that names ``what`` if a bit differs."""
        if len(box) < BOX_BYTES:
            raise _broken(what)
        view = memoryview(box)
        try:
            return self._aead.decrypt(view[:NONCE_BYTES], view[NONCE_BYTES:], None)
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
