"""How a seal of a key service is tied to what it is for. See ``docs/format.md``, "Key services"."""

from __future__ import annotations

import hmac
import os
import re
from dataclasses import dataclass
from typing import Final

from donjon.codec.digest import DIGEST_BYTES, digest
from donjon.codec.seal import KEY_BYTES
from donjon.keys.faults import not_its_own

_FORM: Final = re.compile(rb"donjon/v1/([a-z-]+)\0(.{16})(?:(.{16})(.{8}))?", re.DOTALL)
_SALT_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Context:
    """An info, taken apart. ``session`` is writer and number as in names of objects, empty without one."""

    purpose: str
    vault: str
    session: str = ""

    @classmethod
    def of(cls, info: bytes) -> Context:
        """Raises ``KeyNotAvailable`` for an info that nothing is sealed under."""
        match = _FORM.fullmatch(info)
        if match is None:
            raise not_its_own("a seal for no known purpose")
        purpose, vault, writer, number = match.groups()
        session = f"{writer.hex()}/{int.from_bytes(number, 'little'):08}" if writer else ""
        return cls(purpose.decode(), vault.hex(), session)

    def __str__(self) -> str:
        """For messages."""
        return f"{self.purpose} of {f'session {self.session}' if self.session else f'vault {self.vault}'}"


def bound(secret: bytes, info: bytes) -> bytes:
    """What is wrapped where the service binds a wrapped key to nothing: 48 bytes more than the secret."""
    Context.of(info)
    return os.urandom(_SALT_BYTES) + digest(info) + secret


def unbound(opened: bytes, info: bytes, key: str) -> bytes:
    """The secret in what ``bound`` made. Raises ``KeyNotAvailable`` if it is for something else."""
    at = _SALT_BYTES + DIGEST_BYTES
    same = hmac.compare_digest(opened[_SALT_BYTES:at], digest(info))
    if not same or len(opened) != at + KEY_BYTES:
        raise not_its_own(key)
    return opened[at:]
