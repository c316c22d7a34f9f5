"""The bytes of an object, small or in ranges."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from donjon.clouds.objects.base import Got, ObjectChanged
from donjon.core.units import MIB

#: A range of a large object, and how many of them are asked for ahead.
RANGE_BYTES: Final = 8 * MIB
_AHEAD: Final = 4

#: Asks for a range: (offset, length).
AskRange = Callable[[int, int], "Future[Got]"]


class WholeContent:
    """An object that came in one answer, which is of one moment."""

    __slots__ = ("_at", "_data", "extents")

    def __init__(self, data: bytes) -> None:
        self.extents: tuple[tuple[int, int], ...] | None = None
        self._data = memoryview(data)
        self._at = 0

    def readinto(self, buffer: memoryview) -> int:
        piece = self._data[self._at : self._at + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> bool:
        self._data = memoryview(b"")
        return True


class RangesContent:
    """An object in ranges, some asked for ahead, all of one version of it.

    ``first`` has been read already. With ``last_try`` a change is an error; before, it ends the content.
    """

    __slots__ = (
        "_ask",
        "_at",
        "_data",
        "_last_try",
        "_next",
        "_path",
        "_size",
        "_stable",
        "_waiting",
        "extents",
    )

    def __init__(self, path: bytes, first: Got, ask: AskRange, *, last_try: bool) -> None:
        self.extents: tuple[tuple[int, int], ...] | None = None
        self._path, self._ask, self._last_try = path, ask, last_try
        self._size = first.listed.size_bytes
        self._data = memoryview(first.data)
        self._at = 0
        self._next = len(first.data)
        self._waiting: deque[tuple[int, Future[Got]]] = deque()
        self._stable = True
        self._ask_ahead()

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer; 0 is the end, or that the object changed, which ``close`` tells.

        Raises ``OSError`` if it changed at the last try, and what the port raises.
        """
        filled = 0
        while filled < len(buffer):
            if self._at == len(self._data):
                if not self._waiting or not self._take():
                    break
                continue
            piece = self._data[self._at : self._at + len(buffer) - filled]
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
            self._at += len(piece)
        return filled

    def close(self) -> bool:
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()
        self._data, self._at = memoryview(b""), 0
        return self._stable

    def _take(self) -> bool:
        length, future = self._waiting.popleft()
        try:
            got = future.result()
            if len(got.data) != length:
                raise ObjectChanged("has another size")
        except ObjectChanged as error:
            if self._last_try:
                reason = "changed each time that it was read, so it was left out"
                raise OSError(errno.ESTALE, reason, self._path) from error
            self._stable = False
            self.close()
            return False
        self._data, self._at = memoryview(got.data), 0
        self._ask_ahead()
        return True

    def _ask_ahead(self) -> None:
        while len(self._waiting) < _AHEAD and self._next < self._size:
            length = min(RANGE_BYTES, self._size - self._next)
            self._waiting.append((length, self._ask(self._next, length)))
            self._next += length
