"""Any range of the bytes of a file of a point, holes as zeros."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate

from donjon.core.errors import IntegrityFailure
from donjon.core.units import MIB
from donjon.format.entries import Entry
from donjon.recovery.view import TreeView
from donjon.repository.reading import Buffer

_KEPT_BYTES = 32 * MIB
_ZEROS = bytes(MIB)


class ChunkCache:
    """Chunks that were read and checked, up to 32 MiB of them. Safe to share between threads.

    Of several threads that want data of the same frame, one fetches and opens it; the others find it.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Buffer] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()
        self._frames = [threading.Lock() for _ in range(64)]

    def get(self, view: TreeView, chunk: bytes) -> Buffer:
        """The plaintext of a chunk. Raises ``IntegrityFailure``."""
        with self._lock:
            if (data := self._kept.get(chunk)) is not None:
                self._kept.move_to_end(chunk)
                return data
        with self._frame_lock(view, chunk):
            with self._lock:
                if (data := self._kept.get(chunk)) is not None:
                    return data
            data = bytes(view.reader.read_one(chunk, view.uses))  # a view would hold its whole frame
        with self._lock:
            if chunk not in self._kept:
                self._kept[chunk] = data
                self._kept_bytes += len(data)
            while self._kept_bytes > _KEPT_BYTES:
                self._kept_bytes -= len(self._kept.popitem(last=False)[1])
        return data

    def _frame_lock(self, view: TreeView, chunk: bytes) -> threading.Lock:
        places = view.reader.locate(chunk, view.uses)
        frame = (places[0].at.pack.name, places[0].at.frame_offset) if places else chunk
        return self._frames[hash(frame) % len(self._frames)]


class FileRanges:
    """One file, open for reading anywhere. Memory grows with its number of chunks, 40 bytes for each."""

    def __init__(self, view: TreeView, entry: Entry, cache: ChunkCache) -> None:
        """Raises ``IntegrityFailure`` if chunks are missing or do not add up to the file."""
        self.view = view
        self._cache = cache
        self.size = entry.size
        self._ids: Sequence[bytes] = list(view.tree.chunk_ids(entry))
        if len(self._ids) == 1 and entry.extents is None:
            self._starts = [0, entry.size]  # known without the index; checked when it is read
        else:
            described = view.reader.describe(self._ids, view.uses)
            self._starts = [0, *accumulate(described.length(chunk) for chunk in self._ids)]
        self._extents = entry.extents if entry.extents is not None else ((0, entry.size),)
        self._data_starts = [0, *accumulate(length for _, length in self._extents)]
        if self._starts[-1] != self._data_starts[-1]:
            msg = f"{entry.name!r}: has {self._starts[-1]} bytes of data, expected {self._data_starts[-1]}"
            raise IntegrityFailure(msg)

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset`` on, fewer only at the end. Raises ``IntegrityFailure``."""
        pieces = list(self.pieces(offset, min(offset + size, self.size)))
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def pieces(self, start: int, end: int) -> Iterator[Buffer]:
        """The bytes from ``start`` up to ``end``, in order, in pieces of a chunk or less."""
        offsets = [offset for offset, _ in self._extents]
        number = max(bisect_right(offsets, start) - 1, 0)
        at = start
        for extent in range(number, len(self._extents)):
            offset, length = self._extents[extent]
            if offset >= end:
                break
            if offset > at:
                yield from _zeros(offset - at)
                at = offset
            stop = min(offset + length, end)
            if stop > at:
                base = self._data_starts[extent] - offset
                yield from self._data(at + base, stop + base)
                at = stop
        if at < end:
            yield from _zeros(end - at)

    def next_chunks(self, offset: int, length: int, count: int) -> list[bytes]:
        """The ids of the chunks after a range, if the range came to a new chunk; for reading ahead."""
        if len(self._ids) < 2 or len(self._extents) != 1:
            return []
        first = bisect_right(self._starts, offset) - 1
        last = bisect_right(self._starts, max(offset + length - 1, 0)) - 1
        if first == last and offset != self._starts[first]:
            return []
        return list(self._ids[last + 1 : last + 1 + count])

    def _data(self, start: int, end: int) -> Iterator[Buffer]:
        """Bytes of data, counted without the holes."""
        number = bisect_right(self._starts, start) - 1
        while start < end:
            base, stop = self._starts[number], min(self._starts[number + 1], end)
            if stop > start:
                data = self._cache.get(self.view, self._ids[number])
                if len(data) != self._starts[number + 1] - base:
                    chunk = self._ids[number].hex()[:16]
                    msg = f"chunk {chunk}: has {len(data)} bytes, not what its file needs"
                    raise IntegrityFailure(msg)
                yield memoryview(data)[start - base : stop - base]
                start = stop
            number += 1


def _zeros(count: int) -> Iterator[Buffer]:
    while count:
        piece = min(count, len(_ZEROS))
        yield memoryview(_ZEROS)[:piece]
        count -= piece
