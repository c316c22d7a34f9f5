"""The port to keys: what seals the secrets of a vault, and what opens them again.

A recipient is public and stored in the vault. An opener is its other half and lives with a person: in a
recovery kit, behind a passphrase, in a KMS. An opener that is handed something that is not its own says
``KeyNotAvailable``, one error for every reason, so that callers just try the next opener.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from donjon.codec.digest import ID_BYTES, short_id
from donjon.codec.hpke import PrivateKey, PublicKey
from donjon.core.errors import IntegrityFailure

RECIPIENT_ID_BYTES: Final = ID_BYTES
KIT: Final = "kit"
PASSPHRASE: Final = "passphrase"  # noqa: S105  (the name of a kind)


class Opener(Protocol):
    """Opens what was sealed to one recipient. Safe to share between threads."""

    @property
    def recipient_id(self) -> bytes:
        """Whose secrets this opens, 16 bytes."""

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The secret that was sealed with the same ``info``. Raises ``KeyNotAvailable``."""


def recipient_id(public: bytes) -> bytes:
    """The 16-byte id of a public key of 1216 bytes: the start of its BLAKE3 digest."""
    return short_id(public)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Someone to whom secrets are sealed; nothing here is secret.

    ``kind`` is ``"kit"`` or ``"passphrase"``, ``public`` the 1216 bytes of an HPKE key, ``created_at``
    Unix seconds, ``extra`` what the kind needs to make its opener again (a kit needs nothing).
    """

    recipient_id: bytes
    kind: str
    name: str
    public: bytes
    created_at: int
    extra: bytes = b""

    def seal(self, secret: bytes, info: bytes) -> bytes:
        """``secret`` for this recipient alone, bound to ``info``.

        Raises ``IntegrityFailure`` if ``public`` is no key or not the one that the id names.
        """
        if recipient_id(self.public) != self.recipient_id:
            msg = f"recipient {self.recipient_id.hex()}: its public key has another id"
            raise IntegrityFailure(msg)
        return PublicKey.from_bytes(self.public).seal(secret, info)

    def __repr__(self) -> str:
        """Enough to tell recipients apart."""
        return f"Recipient({self.recipient_id.hex()}, {self.kind}, {self.name!r})"


class PrivateKeyOpener:
    """An opener that holds its private key in memory."""

    __slots__ = ("_private", "_recipient_id")

    def __init__(self, private: PrivateKey) -> None:
        """An opener for the recipient whose private key this is."""
        self._private = private
        self._recipient_id = recipient_id(private.public.to_bytes())

    @property
    def recipient_id(self) -> bytes:
        """Whose secrets this opens, 16 bytes."""
        return self._recipient_id

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The secret that was sealed with the same ``info``. Raises ``KeyNotAvailable``."""
        return self._private.open(sealed, info)

    def __repr__(self) -> str:
        """The id only."""
        return f"PrivateKeyOpener({self._recipient_id.hex()})"
