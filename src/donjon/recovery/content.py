"""Where the data of a file belongs in it, and whether a file on disk has it already."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from donjon.core.errors import IntegrityFailure
from donjon.format.entries import Entry
from donjon.repository.reading import ChunkReader


class Placer:
    """Maps positions in the data of a file, whose holes are left out, to offsets in the file."""

    def __init__(self, entry: Entry) -> None:
        self._extents: Sequence[tuple[int, int]] = (
            ((0, entry.size),) if entry.extents is None else entry.extents
        )
        self._what = entry.name
        self._at = 0
        self._inside = 0

    def place(self, length: int) -> Iterator[tuple[int, int]]:
        """(offset in the file, bytes) for the next ``length`` bytes of data.

        Raises ``IntegrityFailure`` if there is more data than the file can hold.
        """
        while length:
            if self._at >= len(self._extents):
                msg = f"{self._what!r}: has more data than its size allows"
                raise IntegrityFailure(msg)
            offset, size = self._extents[self._at]
            piece = min(length, size - self._inside)
            if piece:
                yield offset + self._inside, piece
            self._inside += piece
            length -= piece
            if self._inside == size:
                self._at, self._inside = self._at + 1, 0

    def check_complete(self) -> None:
        """Raises ``IntegrityFailure`` unless all data of the file has been placed."""
        while self._at < len(self._extents) and self._extents[self._at][1] == self._inside:
            self._at, self._inside = self._at + 1, 0
        if self._at < len(self._extents):
            msg = f"{self._what!r}: has less data than its size says"
            raise IntegrityFailure(msg)


def has_content(
    fd: int, entry: Entry, ids: Sequence[bytes], lengths: Sequence[int], reader: ChunkReader
) -> bool:
    """Whether the open file has the size and, in every data extent, the content that the ids stand for.

    Holes of a sparse file must read as zeros.
    """
    if os.fstat(fd).st_size != entry.size:
        return False
    placer = Placer(entry)
    for chunk, length in zip(ids, lengths, strict=True):
        pieces = [os.pread(fd, size, offset) for offset, size in placer.place(length)]
        if reader.identify(pieces[0] if len(pieces) == 1 else b"".join(pieces)) != chunk:
            return False
    return all(_is_zero(fd, start, end) for start, end in _holes(entry))


def _holes(entry: Entry) -> Iterator[tuple[int, int]]:
    at = 0
    for offset, length in entry.extents or ((0, entry.size),):
        if offset > at:
            yield at, offset
        at = offset + length
    if entry.size > at:
        yield at, entry.size


def _is_zero(fd: int, start: int, end: int) -> bool:
    while start < end:
        try:
            data = os.lseek(fd, start, os.SEEK_DATA)
        except OSError:  # no data up to the end of the file
            return True
        if data >= end:
            return True
        piece = os.pread(fd, min(1 << 20, end - data), data)
        if not piece or piece.count(0) != len(piece):
            return False
        start = data + len(piece)
    return True
