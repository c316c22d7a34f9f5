"""The content of a volume, cut at fixed extents instead of where its content says.

So it is known without reading what chunk lies at which offset, and an increment whose source tells what
has changed reads that alone; see docs/adr/0025-volumes.md. Extents of zeros become holes.
"""

from __future__ import annotations

import os
import queue
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from donjon.backup.files import ChunkStorer, Slot, reason
from donjon.core.events import Progress, StopCheck
from donjon.core.tuning import worker_count
from donjon.core.units import MIB, format_size
from donjon.format.entries import CHUNK_ID_BYTES, EXTENT_ATTRIBUTE, Entry, Kind
from donjon.repository.writing import WriteSession
from donjon.sources.base import OpenVolume, Volume

#: So much is read and stored by one thread at a time, and by all threads together.
_GROUP_BYTES = 4 * MIB
_AT_ONCE_BYTES = 32 * MIB
_MAX_THREADS = 64
#: So many extents that need no reading are handed on together.
_MAX_KEPT = 256
#: As in ``sources.content``. A volume with more is stored as if its smallest holes were data.
_MAX_RUNS = 65_536

#: Runs of extents that hold data: (first, count), ascending.
Runs = list[tuple[int, int]]


def extent_bytes_of(session: WriteSession, volume: OpenVolume) -> int:
    """What the volume is best cut into, or the largest power of two that may be a chunk of this vault."""
    largest: int = session.vault.object.chunk_sizes.maximum
    return min(volume.extent_bytes, 1 << (largest.bit_length() - 1))


class OldExtents:
    """Which chunk a previous entry of a volume has at which extent."""

    def __init__(self, runs: Runs, ids: bytes, size: int) -> None:
        self.size = size
        self._runs = runs
        self._ids = ids
        self._starts = [first for first, _ in runs]
        self._before = [0]
        for _, count in runs:
            self._before.append(self._before[-1] + count)

    @classmethod
    def of(cls, entry: Entry, lists: dict[bytes, bytes], extent_bytes: int) -> OldExtents | None:
        """Those of an entry, or None if it was not cut like this.

        ``lists`` are the id lists that it names, by their ids.
        """
        if entry.kind != Kind.FILE or entry.attribute(EXTENT_ATTRIBUTE) != b"%d" % extent_bytes:
            return None
        ids = entry.chunks
        if entry.indirect:
            step = CHUNK_ID_BYTES
            ids = b"".join(lists.get(ids[at : at + step], b"") for at in range(0, len(ids), step))
        runs: Runs = []
        for offset, length in ((0, entry.size),) if entry.extents is None else entry.extents:
            if offset % extent_bytes or (length % extent_bytes and offset + length != entry.size):
                return None
            runs.append((offset // extent_bytes, -(-length // extent_bytes)))
        old = cls(runs, ids, entry.size)
        return old if old._before[-1] * CHUNK_ID_BYTES == len(ids) else None

    def at(self, number: int) -> bytes:
        """The id of the chunk at an extent; empty for a hole."""
        run = bisect_right(self._starts, number) - 1
        if run < 0 or number >= self._starts[run] + self._runs[run][1]:
            return b""
        return self._id(self._before[run] + number - self._starts[run])

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """(extent, id) of all that is no hole, ascending."""
        place = 0
        for first, count in self._runs:
            for number in range(first, first + count):
                yield number, self._id(place)
                place += 1

    def _id(self, place: int) -> bytes:
        return self._ids[place * CHUNK_ID_BYTES : (place + 1) * CHUNK_ID_BYTES]


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a volume: the ids of its chunks, end to end, and where they belong.

    ``missed`` extents had changed though the source said that they had not, ``first_missed`` is the offset
    of the first of them.
    """

    ids: bytes
    extents: tuple[tuple[int, int], ...] | None
    bytes_read: int
    missed: int = 0
    first_missed: int = 0


class VolumeStorer:
    """Stores one open volume. ``old`` is what the previous point has of it, if it is known."""

    def __init__(
        self,
        session: WriteSession,
        storer: ChunkStorer,
        volume: OpenVolume,
        old: OldExtents | None,
        listeners: tuple[Progress, StopCheck],
        name: str,
    ) -> None:
        self._session = session
        self._storer = storer
        self._volume = volume
        self._old = old
        self._progress, self._stop = listeners
        self._name = name
        self._size = volume.size
        self._extent = extent_bytes_of(session, volume)
        self._count = -(-self._size // self._extent)
        self._zeros = bytes(self._extent)
        self._threads = min(max(worker_count(), volume.parallel), _MAX_THREADS)
        group_bytes = min(_GROUP_BYTES, _AT_ONCE_BYTES // self._threads)
        self._group = max(group_bytes // self._extent, 1)
        self._buffers: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self._done = _Assembly()
        self._touched = bytearray()  # by extent, while hints are checked
        self._missed: list[int] = []
        self._bytes_read = 0

    def store(self, previous: Entry | None, *, read_all: bool) -> Stored:
        """Read what has to be read, and store what is new.

        With ``read_all`` everything is read, and what the source says about changes is checked. Raises
        ``OSError`` and ``SourceFailed`` of the source.
        """
        changed = None
        if self._old is not None and previous is not None:
            changed = self._volume.changes_since(previous)
        wanted: Iterable[tuple[int, bytes]]
        if changed is None or self._old is None:
            wanted = ((number, b"") for number in self._numbers(self._volume.data()))
        elif read_all:
            self._note_changes(changed, self._old)
            wanted = ((number, b"") for number in self._numbers(self._volume.data()))
        else:
            wanted = self._increment(changed, self._old)
        self._run(wanted)
        if self._touched and self._old is not None:
            self._check_gone(self._old)
        runs, ids = self._done.result(self._zero_id)
        first = self._missed[0] * self._extent if self._missed else 0
        return Stored(ids, self._ranges(runs), self._bytes_read, len(self._missed), first)

    # -- which extents -----------------------------------------------------------------------------

    def _numbers(self, ranges: Iterable[tuple[int, int]]) -> Iterator[int]:
        """The extents that ranges of bytes touch, ascending, each once."""
        following = 0
        for offset, length in ranges:
            end = min(-(-(offset + length) // self._extent), self._count)
            first = max(offset // self._extent, following)
            yield from range(first, end)
            following = max(following, end)

    def _edges(self, old: OldExtents) -> set[int]:
        """Extents that were cut short by the end of the volume, then or now."""
        sizes = {old.size, self._size} if old.size != self._size else set()
        return {size // self._extent for size in sizes if size % self._extent}

    def _increment(self, changed: Iterable[tuple[int, int]], old: OldExtents) -> Iterator[tuple[int, bytes]]:
        """(extent, id of what it holds still), with no id for one that has to be read; ascending."""
        edges = self._edges(old)
        numbers = self._numbers(changed)
        following = next(numbers, None)
        for number, identity in old:
            while following is not None and following < number:
                yield following, b""
                following = next(numbers, None)
            if number >= self._count:
                break
            if following == number:
                yield number, b""
                following = next(numbers, None)
            elif number in edges or not self._session.rely_on(identity):
                yield number, b""
            else:
                yield number, identity
        while following is not None:
            yield following, b""
            following = next(numbers, None)

    def _note_changes(self, changed: Iterable[tuple[int, int]], old: OldExtents) -> None:
        self._touched = bytearray(self._count)
        for number in (*self._numbers(changed), *self._edges(old)):
            if number < self._count:
                self._touched[number] = 1

    def _check(self, number: int, identity: bytes) -> None:
        """Whether the source should have told of this extent."""
        if self._touched and self._old is not None:
            if not self._touched[number] and self._old.at(number) != identity:
                self._missed.append(number)
            self._touched[number] = 1

    def _check_gone(self, old: OldExtents) -> None:
        """Extents with data that are holes now, and were not even read."""
        self._missed += [number for number, _ in old if number < self._count and not self._touched[number]]
        self._missed.sort()

    # -- reading and storing -----------------------------------------------------------------------

    def _run(self, wanted: Iterable[tuple[int, bytes]]) -> None:
        for _ in range(self._threads):
            self._buffers.put(bytearray(0))
        under_way: deque[tuple[list[tuple[int, bytes]], Future[list[bytes]]]] = deque()
        group: list[tuple[int, bytes]] = []
        reads = 0
        pool = ThreadPoolExecutor(self._threads, "donjon-volume")
        try:
            for number, identity in wanted:
                group.append((number, identity))
                reads += not identity
                if reads < self._group and len(group) < _MAX_KEPT:
                    continue
                under_way.append((group, pool.submit(self._read, [n for n, i in group if not i])))
                group, reads = [], 0
                self._stop()
                while under_way and (under_way[0][1].done() or len(under_way) > 2 * self._threads):
                    self._take(*under_way.popleft())
            under_way.append((group, pool.submit(self._read, [n for n, i in group if not i])))
            while under_way:
                self._stop()
                self._take(*under_way.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _read(self, numbers: list[int]) -> list[bytes]:
        """Read and store extents; the id of each, empty for one of zeros."""
        if not numbers:
            return []
        buffer = self._buffers.get() or bytearray(self._group * self._extent)
        try:
            lengths: list[int] = []
            has_data = []
            at = 0
            with memoryview(buffer) as view:
                for number in numbers:
                    offset = number * self._extent
                    length = min(self._extent, self._size - offset)
                    self._volume.read_into(offset, view[at : at + length])
                    # Compares bytes without making any.
                    zeros = buffer.startswith(self._zeros if length == self._extent else bytes(length), at)
                    has_data.append(not zeros)
                    if not zeros:
                        lengths.append(length)
                        at += length
                ids = iter(self._storer.store(view[:at], lengths))
            return [next(ids) if data else b"" for data in has_data]
        finally:
            self._buffers.put(buffer)

    def _take(self, group: list[tuple[int, bytes]], work: Future[list[bytes]]) -> None:
        ids = iter(work.result())
        size = 0
        for number, known in group:
            length = min(self._extent, self._size - number * self._extent)
            size += length
            identity = known
            if not known:
                self._bytes_read += length
                identity = next(ids)
                self._check(number, identity)
            if identity:
                self._done.add(number, identity)
        self._progress.advance(size_bytes=size, current=self._name)

    def _zero_id(self) -> bytes:
        data = bytearray(self._extent)
        with memoryview(data) as view:
            return self._storer.store(view, [len(data)])[0]

    def _ranges(self, runs: Runs) -> tuple[tuple[int, int], ...] | None:
        if runs == [(0, self._count)] or not self._count:
            return None
        extent, size = self._extent, self._size
        return tuple(
            (first * extent, min((first + count) * extent, size) - first * extent) for first, count in runs
        )


class _Assembly:
    """Gathers the chunks of a volume in order."""

    def __init__(self) -> None:
        self._runs: Runs = []
        self._ids = bytearray()

    def add(self, number: int, identity: bytes) -> None:
        runs = self._runs
        if runs and sum(runs[-1]) == number:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
        self._ids += identity

    def result(self, zero_id: Callable[[], bytes]) -> tuple[Runs, bytes]:
        """Runs and ids. If there are too many, the smallest holes are filled with the chunk of zeros."""
        if len(self._runs) <= _MAX_RUNS:
            return self._runs, bytes(self._ids)
        return _without_small_holes(self._runs, self._ids, zero_id(), _MAX_RUNS)


def store_volume(
    item: Volume,
    slot: Slot,
    old: tuple[Entry, dict[bytes, bytes]] | None,
    tools: tuple[WriteSession, ChunkStorer],
    listeners: tuple[Progress, StopCheck],
    *,
    read_all: bool,
) -> bytes:
    """Store a volume and fill its slot; the ids of its chunks, end to end.

    ``old`` is the entry of the previous point and the id lists that it names. What is wrong with the volume
    becomes the slot's problem. Raises ``SourceFailed``, and what the session raises.
    """
    session, storer = tools
    try:
        volume = item.open_volume()
        try:
            extent_bytes = extent_bytes_of(session, volume)
            previous = OldExtents.of(*old, extent_bytes) if old is not None else None
            work = VolumeStorer(session, storer, volume, previous, listeners, os.fsdecode(item.path))
            stored = work.store(old[0] if old is not None else None, read_all=read_all)
            entry = item.describe()  # what it says may depend on how the reading went
        finally:
            problems = volume.close()
            session.warnings += volume.notes
    except OSError as error:
        slot.problem = reason(error)
        return b""
    if stored.missed:
        problems.append(
            f"{stored.missed} extents of {format_size(extent_bytes)} had changed though the list of changed "
            f"blocks left them out, the first at offset {stored.first_missed}"
        )
    slot.problem = "; ".join(problems) or None
    slot.bytes_read = stored.bytes_read
    attributes = {**dict(entry.xattrs), EXTENT_ATTRIBUTE: b"%d" % extent_bytes}
    slot.entry = msgspec.structs.replace(
        entry, size=volume.size, extents=stored.extents, xattrs=tuple(sorted(attributes.items()))
    )
    return stored.ids


def _without_small_holes(runs: Runs, ids: bytearray, zero: bytes, most: int) -> tuple[Runs, bytes]:
    gaps = [after - first - count for (first, count), (after, _) in pairwise(runs)]
    limit = sorted(gaps)[len(runs) - most - 1]  # filling all up to this one leaves few enough
    joined: Runs = []
    filled = bytearray()
    at = 0
    for first, count in runs:
        if joined and first - sum(joined[-1]) <= limit:
            filled += zero * (first - sum(joined[-1]))
            joined[-1] = (joined[-1][0], first + count - joined[-1][0])
        else:
            joined.append((first, count))
        filled += ids[at : at + count * CHUNK_ID_BYTES]
        at += count * CHUNK_ID_BYTES
    return joined, bytes(filled)
