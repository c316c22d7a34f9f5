"""The data of one open file: what is between its holes, and whether it held still."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from donjon.core.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

Extents = tuple[tuple[int, int], ...]

#: A file with more extents than this is read as if it had no holes.
MAX_EXTENTS = 65_536
#: From this size on the kernel is told that a file is read from start to end.
SEQUENTIAL_FROM_BYTES = 8 * MIB

_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system


class FileContent:
    """Reads an open regular file up to the size that it had when it was opened.

    ``fd`` now belongs to this object. ``seen`` is the status of the walk, ``opened`` that of the open.
    """

    __slots__ = ("_end", "_fd", "_left", "_opened", "_position", "_seen", "extents")

    def __init__(self, fd: int, seen: os.stat_result, opened: os.stat_result) -> None:
        self._fd = fd
        self._seen = seen
        self._opened = opened
        self._position = 0
        size = self._end = opened.st_size
        self.extents: Extents | None = None
        self._left: Iterator[tuple[int, int]] | None = None
        if opened.st_blocks * _BLOCK_BYTES < size:
            self.extents = find_extents(fd, size)
            if self.extents is not None:
                self._left = iter(self.extents)
                self._end = 0
        if size >= SEQUENTIAL_FROM_BYTES and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer with the next data, as far as there is any; 0 means the end.

        Raises ``OSError``.
        """
        filled, room = 0, len(buffer)
        while filled < room:
            wanted = min(room - filled, self._end - self._position)
            if wanted <= 0:
                if self._left is None or (extent := next(self._left, None)) is None:
                    break
                self._position, self._end = extent[0], extent[0] + extent[1]
                continue
            got = os.preadv(self._fd, [buffer[filled : filled + wanted]], self._position)
            if got == 0:  # shorter than it was; close() tells
                self._end, self._left = self._position, None
                break
            filled += got
            self._position += got
        return filled

    def close(self) -> bool:
        """Close, and tell whether size and times are still those of the open and of the walk."""
        fd, self._fd = self._fd, -1
        try:
            now, opened, seen = os.fstat(fd), self._opened, self._seen
        finally:
            if fd >= 0:
                os.close(fd)
        return (
            now.st_ctime_ns == opened.st_ctime_ns == seen.st_ctime_ns
            and now.st_mtime_ns == opened.st_mtime_ns == seen.st_mtime_ns
            and now.st_size == opened.st_size == seen.st_size
        )


def find_extents(fd: int, size: int) -> Extents | None:
    """Where a file of ``size`` bytes holds data, or None if everywhere, in too many places or unknown.

    See lseek(2), ``SEEK_DATA`` and ``SEEK_HOLE``. Moves the file offset.
    """
    if not hasattr(os, "SEEK_DATA"):
        return None
    extents: list[tuple[int, int]] = []
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            return None
        if start >= size:
            break
        try:
            position = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        except OSError:  # cut off in between; close() tells
            return None
        if position <= start or len(extents) == MAX_EXTENTS:
            return None
        extents.append((start, position - start))
    return None if extents == [(0, size)] else tuple(extents)
