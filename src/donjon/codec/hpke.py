"""Secrets sealed to a public key: HPKE with a hybrid of ML-KEM-768 and X25519.

Whoever records sealed keys today has to break both, the lattice and the curve, to open them later.

Suite: KEM MLKEM768-X25519 (0x647a, draft-ietf-hpke-pq; the same construction as X-Wing,
draft-connolly-cfrg-xwing-kem), HKDF-SHA256 (0x0001), AES-256-GCM (0x0002), mode base, empty AAD
(RFC 9180). ``docs/keys.md``, "Sealed secrets", has the bytes.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from donjon.core.errors import IntegrityFailure, KeyNotAvailable

_MLKEM_SEED_BYTES: Final = 64
_MLKEM_PUBLIC_BYTES: Final = 1184
_X25519_BYTES: Final = 32

PRIVATE_BYTES: Final = _MLKEM_SEED_BYTES + _X25519_BYTES
PUBLIC_BYTES: Final = _MLKEM_PUBLIC_BYTES + _X25519_BYTES
#: What sealing adds: an ML-KEM ciphertext (1088), an ephemeral X25519 key (32), a GCM tag (16).
OVERHEAD_BYTES: Final = 1088 + 32 + 16


class PublicKey:
    """What secrets are sealed to: an ML-KEM-768 key (1184 bytes), then an X25519 key (32 bytes)."""

    __slots__ = ("_data", "_key")

    def __init__(self, data: bytes) -> None:
        """Raises ``IntegrityFailure`` unless ``data`` are the 1216 bytes of a valid key."""
        self._data: Final = bytes(data)
        mlkem, x25519 = self._data[:_MLKEM_PUBLIC_BYTES], self._data[_MLKEM_PUBLIC_BYTES:]
        try:
            self._key: Final = MLKEM768X25519PublicKey(
                MLKEM768PublicKey.from_public_bytes(mlkem), X25519PublicKey.from_public_bytes(x25519)
            )
        except ValueError as error:
            msg = f"public key: {len(self._data)} bytes that are no ML-KEM-768 and X25519 key"
            raise IntegrityFailure(msg) from error

    @classmethod
    def from_bytes(cls, data: bytes) -> PublicKey:
        """See the constructor."""
        return cls(data)

    def to_bytes(self) -> bytes:
        """1216 bytes."""
        return self._data

    def seal(self, secret: bytes, info: bytes) -> bytes:
        """``secret`` for the owner of this key, ``OVERHEAD_BYTES`` longer. Never twice the same.

        ``info`` says what the secret is for; only the same ``info`` opens it. Raises
        ``IntegrityFailure`` if the key is one of the few X25519 points that nobody can own.
        """
        try:
            return _suite().encrypt(secret, self._key, info)
        except ValueError as error:
            msg = "public key: its X25519 half is of small order"
            raise IntegrityFailure(msg) from error

    def __eq__(self, other: object) -> bool:
        """Equal bytes."""
        return isinstance(other, PublicKey) and self._data == other._data

    def __hash__(self) -> int:
        """Hash of the bytes."""
        return hash(self._data)

    def __repr__(self) -> str:
        """The first bytes, enough to tell keys apart."""
        return f"PublicKey({self._data[:8].hex()}...)"


class PrivateKey:
    """What opens sealed secrets: an ML-KEM-768 seed (64 bytes), then an X25519 key (32 bytes)."""

    __slots__ = ("_data", "_key", "public")

    #: The public half.
    public: Final[PublicKey]

    def __init__(self, data: bytes) -> None:
        """Raises ``IntegrityFailure`` unless ``data`` are 96 bytes."""
        if len(data) != PRIVATE_BYTES:
            msg = f"private key: {len(data)} bytes instead of {PRIVATE_BYTES}"
            raise IntegrityFailure(msg)
        self._data: Final = bytes(data)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(self._data[:_MLKEM_SEED_BYTES])
        x25519 = X25519PrivateKey.from_private_bytes(self._data[_MLKEM_SEED_BYTES:])
        self._key: Final = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public = PublicKey(
            mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        )

    @classmethod
    def generate(cls) -> PrivateKey:
        """A key from the randomness of OpenSSL."""
        mlkem, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
        return cls(mlkem.private_bytes_raw() + x25519.private_bytes_raw())

    @classmethod
    def from_bytes(cls, data: bytes) -> PrivateKey:
        """See the constructor."""
        return cls(data)

    def to_bytes(self) -> bytes:
        """96 secret bytes."""
        return self._data

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The secret. Raises ``KeyNotAvailable`` whatever the reason that it does not open."""
        try:
            return _suite().decrypt(sealed, self._key, info)
        except (InvalidTag, ValueError) as error:
            msg = f"{len(sealed)} sealed bytes do not open with this key"
            raise KeyNotAvailable(msg, hint="Use the key that they were sealed to.") from error

    def __repr__(self) -> str:
        """The public half only."""
        return f"PrivateKey(public={self.public!r})"


def seal(public: PublicKey, secret: bytes, info: bytes) -> bytes:
    """See ``PublicKey.seal``."""
    return public.seal(secret, info)


def open(private: PrivateKey, sealed: bytes, info: bytes) -> bytes:  # noqa: A001  (the verb of the port)
    """See ``PrivateKey.open``."""
    return private.open(sealed, info)


@cache
def _suite() -> Suite:
    return Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
