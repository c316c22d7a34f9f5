"""A key service in memory, for tests of what uses one: it counts calls, and fails as it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from donjon.codec.hpke import PrivateKey
from donjon.core.errors import DonjonError
from donjon.keys.address import service_recipient
from donjon.keys.base import KeyService, Recipient
from donjon.keys.gcp_kms import GcpKey


@dataclass
class MemoryKey:
    """Seals as a recovery kit does. ``seal_error`` and ``open_error`` are raised while they are set."""

    name: str
    seal_error: DonjonError | None = None
    open_error: DonjonError | None = None
    sealed: int = 0
    opened: int = 0
    _private: PrivateKey = field(default_factory=PrivateKey.generate, repr=False)

    @property
    def recipient(self) -> Recipient:
        """A recipient that goes by the address of a cloud's key, which nobody asks."""
        key = GcpKey(f"projects/p/locations/l/keyRings/r/cryptoKeys/{self.name}")
        return service_recipient(key, self.name, 1)

    @property
    def recipient_id(self) -> bytes:
        """See ``Opener``."""
        return self.recipient.recipient_id

    def seal(self, secret: bytes, info: bytes) -> bytes:
        """See ``KeyService``."""
        self.sealed += 1
        if self.seal_error is not None:
            raise self.seal_error
        return self._private.public.seal(secret, info)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """See ``Opener``."""
        self.opened += 1
        if self.open_error is not None:
            raise self.open_error
        return self._private.open(sealed, info)


def connecting(*keys: MemoryKey) -> Callable[[Recipient], KeyService]:
    """The ``Connect`` of who can reach these keys and no others."""
    by_id = {key.recipient_id: key for key in keys}
    return lambda recipient: by_id[recipient.recipient_id]
