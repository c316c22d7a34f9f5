"""One large object that is being restored, in parts that fill up from many threads."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

from donjon.clouds.objects.base import Upload
from donjon.core.errors import DonjonError, IntegrityFailure
from donjon.format.entries import Entry
from donjon.targets.base import Buffer


class ObjectWriter:
    """See ``FileWriter``. A part is put once all data that belongs into it has come; holes are zeros.

    Data comes nearly in order, so only a few parts are in memory at a time.
    """

    def __init__(
        self, path: bytes, entry: Entry, upload: Upload, failure: Callable[[bytes, DonjonError], Exception]
    ) -> None:
        self._path, self._size, self._upload, self._failure = path, entry.size, upload, failure
        self._count = max(1, -(-entry.size // upload.part_bytes))
        self._left = self._expected(entry)
        self._parts: dict[int, bytearray] = {}
        self._ready: dict[int, Buffer] = {}
        self._next = 0
        self._mutex = threading.Lock()
        self._in_order = threading.Lock()

    def write_at(self, offset: int, data: Buffer) -> None:
        """Take data. Raises ``IntegrityFailure`` for more of it than there is, and what a put raises."""
        view, step = memoryview(data), self._upload.part_bytes
        if offset < 0 or offset + len(view) > self._size:
            raise IntegrityFailure(f"{os.fsdecode(self._path)}: there is more data than the file is long")
        while len(view) > 0:
            number, start = divmod(offset, step)
            piece = view[: step - start]
            with self._mutex:
                part = self._parts.get(number)
                if part is None:
                    part = self._parts[number] = bytearray(self._length(number))
                part[start : start + len(piece)] = piece
                self._left[number] -= len(piece)
                full = self._left[number] == 0
                if full:
                    del self._parts[number]
            if full:
                self._put(number, part)
            offset, view = offset + len(piece), view[len(piece) :]

    def finish(self) -> None:
        """Put what is all holes, and make the object visible.

        Raises ``OSError`` if somebody else put one meanwhile that must stay, and what a put raises.
        """
        if any(self._left.values()):
            raise IntegrityFailure(f"{os.fsdecode(self._path)}: has less data than its size says")
        try:
            if self._upload.ordered:
                self._put_ready()
            else:
                for number in range(self._count):
                    if number not in self._left:
                        self._upload.part(number, bytes(self._length(number)))
            made = self._upload.complete(self._count)
        except DonjonError as error:
            raise self._failure(self._path, error) from error
        if not made:
            raise OSError(errno.EEXIST, "was put by somebody else meanwhile, and stays", self._path)

    def abort(self) -> None:
        """Throw away what was put."""
        self._upload.abort()

    def _expected(self, entry: Entry) -> dict[int, int]:
        """How many bytes of data belong into each part; parts that are all holes are left out."""
        step = self._upload.part_bytes
        expected: dict[int, int] = {}
        for offset, length in entry.extents if entry.extents is not None else ((0, entry.size),):
            at, end = offset, offset + length
            while at < end:
                number = at // step
                stop = min(end, (number + 1) * step)
                expected[number] = expected.get(number, 0) + stop - at
                at = stop
        return expected

    def _length(self, number: int) -> int:
        return min(self._upload.part_bytes, self._size - number * self._upload.part_bytes)

    def _put(self, number: int, data: Buffer) -> None:
        try:
            if not self._upload.ordered:
                self._upload.part(number, data)
                return
            with self._mutex:
                self._ready[number] = data
            with self._in_order:
                self._put_ready()
        except DonjonError as error:
            raise self._failure(self._path, error) from error

    def _put_ready(self) -> None:
        while True:
            with self._mutex:
                data = self._ready.pop(self._next, None)
            if data is None:
                if self._next in self._left or self._next >= self._count:
                    return
                data = bytes(self._length(self._next))  # a part of holes alone
            self._upload.part(self._next, data)
            self._next += 1
