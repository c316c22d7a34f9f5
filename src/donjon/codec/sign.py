"""Ed25519 signatures (RFC 8032, pure Ed25519 without a context).

Callers put a domain of their own in front of what they sign, so that no signature fits two purposes.
"""

from __future__ import annotations

import os
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from donjon.core.errors import IntegrityFailure

Buffer = bytes | bytearray | memoryview

SEED_BYTES: Final = 32
PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class Signer(Protocol):
    """Whoever can sign with an Ed25519 key: one in memory, or one that a token keeps."""

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        ...

    def sign(self, message: Buffer) -> bytes:
        """The 64-byte signature of ``message``."""
        ...


class SigningKey:
    """One signer. Immutable and safe to share between threads; its ``repr`` shows no secret."""

    __slots__ = ("_key", "public")

    #: The public key, 32 bytes.
    public: Final[bytes]

    def __init__(self, seed: bytes) -> None:
        """``seed`` is the 32-byte private key of RFC 8032. Raises ``ValueError`` for another length."""
        self._key: Final = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> SigningKey:
        """A key from the operating system's randomness."""
        return cls(os.urandom(SEED_BYTES))

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes that make this key again."""
        return self._key.private_bytes_raw()

    def sign(self, message: Buffer) -> bytes:
        """The 64-byte signature of ``message``; the same message always gives the same signature."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        """The public half only."""
        return f"SigningKey(public={self.public.hex()})"


def verify(public: bytes, message: Buffer, signature: Buffer, *, what: str = "signature") -> None:
    """Return only if the owner of ``public`` signed ``message``.

    Raises ``IntegrityFailure`` that names ``what`` otherwise, also for keys and signatures of a wrong
    length, so that hostile bytes can be passed as they are.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        msg = f"{what}: was not signed by {public.hex()[:16]}, or was changed afterwards"
        raise IntegrityFailure(msg, hint="Run `donjon verify` to learn what is affected.") from error
