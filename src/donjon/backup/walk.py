"""The walk: items of the source beside those of the previous point, read and stored by several threads.

Entries reach the metadata in order, whichever thread is done first.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from donjon.backup.extents import store_volume
from donjon.backup.files import (
    BATCH_BYTES,
    BATCH_FILES,
    CHANGED,
    MAX_DIRECT_CHUNKS,
    SMALL_FILE_BYTES,
    Buffers,
    ChunkStorer,
    Slot,
    reason,
    split_lists,
    store_batch,
    with_extents,
)
from donjon.backup.job import Counts, Job
from donjon.backup.metadata import Origin, PreviousCursor, Reliability, SegmentWriter
from donjon.backup.previous import NextPrevious, previous_path, read_previous
from donjon.core.errors import SourceFailed
from donjon.core.events import Progress, StopCheck
from donjon.core.tuning import worker_count
from donjon.format.entries import CHUNK_ID_BYTES, MAX_DEPTH, Entry, Kind
from donjon.format.segments import Problem
from donjon.repository.cache import Cache
from donjon.repository.writing import WriteSession
from donjon.sources.base import Content, Expecting, Item, Volume, as_volume

_MAX_WAITING = 4_096
_DRAIN_EVERY = 64
_MAX_PROBLEMS = 100_000
_ATTEMPTS = 3


class Walk:
    """The threads, the queue of entries in order, and the counts."""

    def __init__(
        self,
        job: Job,
        session: WriteSession,
        following: NextPrevious,
        cache: Cache,
        progress: Progress,
        stop: StopCheck,
    ) -> None:
        self.counts = Counts()
        self.writer = SegmentWriter(session, following)
        self._job = job
        self._session = session
        self._storer = ChunkStorer(session)
        self._volumes: list[Slot] = []
        self._progress = progress
        self._stop = stop
        self._cursor = PreviousCursor(read_previous(previous_path(cache, job.workload), job.workload))
        self._reliability = Reliability(session)
        threads = worker_count()
        self._pool = ThreadPoolExecutor(threads, "donjon-backup")
        self._buffers = Buffers(threads)
        # Entries in order: each with its origin, or a slot that is filled once a future is done.
        self._queue: deque[tuple[Entry | Slot | None, Origin | None, _Work | None]] = deque()
        self._batch: list[Slot] = []
        self._batch_bytes = 0
        self._batch_work = _Work()
        self._links: dict[tuple[int, int], Slot] = {}
        self._bytes_told = 0  # of those that are unmodified
        self._expecting = job.source if isinstance(job.source, Expecting) else None

    def end(self) -> None:
        """Wait for the threads; work that has not begun is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self) -> None:
        """Take all items of the source, and wait until their content is stored."""
        match, reliable, counts = self._cursor.match, self._reliability.holds, self.counts
        read_all, queue, add, stop = self._job.read_all, self._queue, self.writer.add, self._stop
        wait_until = _DRAIN_EVERY
        for item in self._job.source.items():
            stop()
            hit = match(item.depth, item.name)
            if hit is not None:
                entry, origin = hit
                if item.same_as(entry) and not (read_all and item.is_file) and reliable(entry, origin):
                    if item.is_file:
                        counts.files_unmodified += 1
                        counts.size_bytes += entry.size
                        counts.bytes_unmodified += entry.size
                    if queue:
                        queue.append((entry, origin, None))
                        if len(queue) > _MAX_WAITING:
                            self._drain(len(queue) // 2)
                    else:
                        add(entry, origin)
                        self._count(entry)
                    continue
            self._take_changed(item, hit)
            if len(queue) > wait_until:
                self._drain_done()
                wait_until = len(queue) + _DRAIN_EVERY
        self._submit_batch()
        self._drain(0)
        self._check_volumes()
        for path, why in self._job.source.problems():
            self._problem(path, why)

    # -- items that have to be looked at -----------------------------------------------------------

    def _take_changed(self, item: Item, hit: tuple[Entry, Origin] | None) -> None:
        if item.depth >= MAX_DEPTH:
            if item.depth == MAX_DEPTH:  # what is deeper still goes without saying
                self._problem(item.path, f"lies more than {MAX_DEPTH} directories deep; left out")
            return
        if not item.is_file:
            try:
                self._queue.append((item.describe(), None, None))
            except OSError as error:
                self._problem(item.path, reason(error))
            return
        slot = Slot(item, hit[0] if hit else None)
        if (volume := as_volume(item)) is not None:
            self._submit_batch()
            self._queue.append((slot, None, self._store_volume(volume, slot, hit)))
            return
        first = self._links.get(item.link_group) if item.link_group is not None else None
        if first is not None:
            self._queue.append((slot, None, _Work(linked=first)))
            return
        if item.link_group is not None:
            self._links[item.link_group] = slot
        if item.size > SMALL_FILE_BYTES:
            self._submit_batch()
            self._queue.append((slot, None, self._store_large(slot)))
            return
        if self._batch_bytes + item.size > BATCH_BYTES or len(self._batch) >= BATCH_FILES:
            self._submit_batch()
        if self._expecting is not None:
            self._expecting.expect(item)
        self._batch.append(slot)
        self._batch_bytes += item.size
        self._queue.append((slot, None, self._batch_work))

    def _submit_batch(self) -> None:
        if not self._batch:
            return
        slots, work = self._batch, self._batch_work
        self._batch, self._batch_bytes, self._batch_work = [], 0, _Work()
        buffer = self._take_buffer()
        work.futures.append(self._pool.submit(self._work_batch, slots, buffer))

    def _take_buffer(self) -> bytearray:
        return self._buffers.take()

    def _work_batch(self, slots: list[Slot], buffer: bytearray) -> None:
        try:
            store_batch(self._storer, slots, buffer)
        finally:
            self._buffers.give_back(buffer)

    def _work_section(self, buffer: bytearray, lengths: list[int]) -> list[bytes]:
        try:
            with memoryview(buffer) as view:
                return self._storer.store(view, lengths)
        finally:
            self._buffers.give_back(buffer)

    def _store_volume(self, volume: Volume, slot: Slot, hit: tuple[Entry, Origin] | None) -> _Work:
        """Read a volume to its end; it has threads of its own."""
        old = (hit[0], hit[1][0].lists) if hit else None
        tools, listeners = (self._session, self._storer), (self._progress, self._stop)
        ids = store_volume(volume, slot, old, tools, listeners, read_all=self._job.read_all)
        self._volumes.append(slot)
        done: Future[list[bytes]] = Future()
        done.set_result([ids])
        work = _Work(large=True)
        work.futures.append(done)
        return work

    def _check_volumes(self) -> None:
        """A point that lacks the only thing that it was made for would pass for a good one."""
        if self._volumes and not any(slot.entry for slot in self._volumes):
            first = self._volumes[0]
            msg = f"{os.fsdecode(first.item.path)}: {first.problem}"
            raise SourceFailed(msg, hint="No point was made, as no volume could be read.")

    def _store_large(self, slot: Slot) -> _Work:
        """Read a large file in sections; the threads store them meanwhile."""
        item = slot.item
        work = _Work()
        try:
            for attempt in range(_ATTEMPTS):
                if attempt:
                    item.refresh()
                work = _Work(large=True)
                content = item.open()
                stable = False
                try:
                    entry = item.describe()
                    size = self._read_sections(content, work, item)
                finally:
                    stable = content.close()
                slot.bytes_read += size
                if stable:
                    break
            else:
                slot.problem = CHANGED
            slot.entry = with_extents(entry, content.extents, size)
        except OSError as error:
            slot.problem = reason(error)
            slot.entry = None
        return work

    def _read_sections(self, content: Content, work: _Work, item: Item) -> int:
        chunker = self._storer.chunker()
        total = 0
        carry: bytes | memoryview = b""
        final = False
        while not final:
            self._stop()
            buffer = self._take_buffer()
            try:
                with memoryview(buffer) as view:
                    filled = len(carry)
                    view[:filled] = carry
                    while filled < len(view):
                        count = content.readinto(view[filled:])
                        if not count:
                            final = True
                            break
                        filled += count
                        total += count
                        self._progress.advance(size_bytes=count, current=os.fsdecode(item.path))
                    lengths = chunker.cut(view[:filled], final=final)
                    carry = bytes(view[sum(lengths) : filled])
            except BaseException:
                self._buffers.give_back(buffer)
                raise
            work.futures.append(self._pool.submit(self._work_section, buffer, lengths))
        return total

    # -- the queue, in order -----------------------------------------------------------------------

    def _drain_done(self) -> None:
        """Hand on what is ready at the head of the queue."""
        queue = self._queue
        while queue:
            work = queue[0][2]
            if work is not None and not work.done():
                if len(queue) > _MAX_WAITING:
                    self._drain(_MAX_WAITING // 2)
                return
            self._hand_on()

    def _drain(self, down_to: int) -> None:
        """Hand on until so many are left, waiting where necessary."""
        queue = self._queue
        while len(queue) > down_to:
            self._stop()
            work = queue[0][2]
            if work is self._batch_work:
                self._submit_batch()
            self._hand_on()

    def _hand_on(self) -> None:
        thing, origin, work = self._queue.popleft()
        if isinstance(thing, Slot):
            assert work is not None  # noqa: S101  (a slot always comes with its work)
            self._hand_on_slot(thing, work)
        elif thing is not None:
            self.writer.add(thing, origin)
            self._count(thing)

    def _hand_on_slot(self, slot: Slot, work: _Work) -> None:
        ids = work.wait()
        if slot.grown:
            slot.grown = False
            work = self._store_large(slot)
            ids = work.wait()
        if work.linked is not None:
            self._link(slot, work.linked)
        elif ids is not None and slot.entry is not None:
            self._set_chunks(slot, ids)
        if slot.problem is not None:
            self._problem(slot.item.path, slot.problem)
        entry = slot.entry
        if entry is None:
            return
        self.counts.bytes_read += slot.bytes_read
        if slot.previous is not None and slot.previous.kind == Kind.FILE:
            self.counts.files_changed += 1
        else:
            self.counts.files_new += 1
        self.counts.size_bytes += entry.size
        self.writer.add(entry, None, slot.lists)
        self._count(entry)
        small = 0 if work.large else slot.bytes_read
        self._progress.advance(size_bytes=small, current=os.fsdecode(slot.item.path))

    def _set_chunks(self, slot: Slot, ids: bytes) -> None:
        assert slot.entry is not None  # noqa: S101  (checked by the caller)
        indirect = len(ids) > MAX_DIRECT_CHUNKS * CHUNK_ID_BYTES
        if indirect:
            ids, slot.lists = split_lists(self._storer, ids)
        slot.entry = msgspec.structs.replace(slot.entry, chunks=ids, indirect=indirect)

    def _link(self, slot: Slot, first: Slot) -> None:
        """A further name of a file that was read under its first name."""
        if first.entry is None:
            slot.problem = first.problem or "could not be read under its first name"
            return
        try:
            own = slot.item.describe()
        except OSError as error:
            slot.problem = reason(error)
            return
        content = first.entry
        slot.entry = msgspec.structs.replace(
            own,
            size=content.size,
            chunks=content.chunks,
            indirect=content.indirect,
            extents=content.extents,
        )
        slot.lists = first.lists

    def _count(self, entry: Entry) -> None:
        counts = self.counts
        if entry.kind == Kind.FILE:
            counts.files += 1
        elif entry.kind == Kind.DIRECTORY:
            counts.directories += 1
        else:
            counts.others += 1
        if not (counts.files + counts.directories + counts.others) & 0x3F:
            unmodified = counts.bytes_unmodified - self._bytes_told
            self._bytes_told += unmodified
            self._progress.advance(items=64, size_bytes=unmodified)

    def _problem(self, path: bytes, why: str) -> None:
        self._progress.note(f"{os.fsdecode(path)}: {why}")
        if len(self.counts.problems) < _MAX_PROBLEMS:
            self.counts.problems.append(Problem(path, why))


class _Work:
    """What has to be done before a slot is filled. ``large``: its futures give the ids of a large file."""

    __slots__ = ("futures", "large", "linked")

    def __init__(self, *, large: bool = False, linked: Slot | None = None) -> None:
        self.futures: list[Future[list[bytes]] | Future[None]] = []
        self.large = large
        self.linked = linked

    def done(self) -> bool:
        """Whether ``wait`` would return at once."""
        if self.linked is not None or self.large:
            return all(future.done() for future in self.futures)
        return bool(self.futures) and self.futures[0].done()

    def wait(self) -> bytes | None:
        """The ids of a large file, end to end; None for everything else. Raises what the work raised."""
        if not self.large:
            for future in self.futures:
                future.result()
            return None
        return b"".join(identity for future in self.futures for identity in future.result() or ())
