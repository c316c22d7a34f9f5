"""A stream of an object as the file that clients of providers write to."""

from __future__ import annotations

from donjon.core.errors import IntegrityFailure
from donjon.stores.base import Write, truncated


class Sink:
    """Hands on what is written to it, which should be ``size_bytes`` of the object ``name``."""

    def __init__(self, name: str, size_bytes: int, write: Write) -> None:
        self._name, self._size, self._write = name, size_bytes, write
        self._done = 0

    def write(self, data: bytes) -> int:
        """Raises ``IntegrityFailure`` for more than there should be."""
        if self._done + len(data) > self._size:
            msg = f"{self._name}: the store gave more bytes than were asked for"
            raise IntegrityFailure(msg, hint="Look for a proxy that ignores ranges.")
        self._write(self._done, memoryview(data))
        self._done += len(data)
        return len(data)

    def finish(self) -> None:
        """Raises ``IntegrityFailure`` for less than there should be."""
        if self._done < self._size:
            raise truncated(self._name, self._size, self._done)
