"""Restores a point: directories and special files in order, files by several threads.

The stream of entries is read twice: first everything is made, then directories get their metadata,
children before parents, as later writes would change it. Memory does not grow with the number of files.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from donjon.core.errors import DonjonError, IntegrityFailure, StoreError, StoreFull
from donjon.core.events import Progress, StopCheck, never_stop
from donjon.core.tuning import prepare_for_bulk_work, worker_count
from donjon.core.units import MIB
from donjon.format.entries import Entry, Kind
from donjon.format.segments import Problem
from donjon.recovery.content import Placer, has_content
from donjon.recovery.request import Request, selected
from donjon.repository.reading import ChunkReader, Fetched
from donjon.repository.tree import Tree
from donjon.targets.base import FileWriter, NewFile, Overwrite, Target

_BATCH_BYTES = 4 * MIB
_BATCH_FILES = 128
_SECTION_CHUNKS = 4
_UNDER_WAY = 6


@dataclass(slots=True)
class Restored:
    """What a restore did. ``kept`` items were there already and stayed. Sizes are in bytes."""

    files: int = 0
    directories: int = 0
    others: int = 0
    kept: int = 0
    verified: int = 0
    size_bytes: int = 0
    problems: list[Problem] = field(default_factory=list)
    damage: list[Problem] = field(default_factory=list)


def restore(
    request: Request,
    reader: ChunkReader,
    target: Target,
    progress: Progress,
    stop: StopCheck = never_stop,
) -> Restored:
    """Carry out a restore.

    Items that the target refuses are listed in the result. Raises ``IntegrityFailure`` at the first
    damaged item unless ``keep_going``, ``StoreFull`` when the target has no room left, and
    ``Interrupted``: then the same restore goes on from there.
    """
    prepare_for_bulk_work()
    return _Restore(request, reader, target, progress, stop).run()


class _Large:
    """A large file that several threads write."""

    def __init__(self, path: bytes, entry: Entry, writer: FileWriter) -> None:
        self.path, self.entry, self.writer = path, entry, writer
        self.lock = threading.Lock()
        self.pending = 1  # one for the thread that hands out the sections
        self.failed = False


class _Restore:
    def __init__(
        self,
        request: Request,
        reader: ChunkReader,
        target: Target,
        progress: Progress,
        stop: StopCheck,
    ) -> None:
        self._request = request
        self._target = target
        self._progress = progress
        self._stop = stop
        self._reader = reader
        self._tree = Tree(request.point, reader)
        self._uses = request.point.point.uses
        self._result = Restored()
        self._lock = threading.Lock()
        self._first_names: dict[tuple[int, int], bytes] = {}
        self._links: list[tuple[bytes, bytes, Entry]] = []
        self._not_made: set[bytes] = set()
        self._batch: list[tuple[bytes, Entry]] = []
        self._batch_bytes = 0
        self._under_way: deque[Future[None]] = deque()
        self._pool = ThreadPoolExecutor(worker_count(), "donjon-restore")

    def run(self) -> Restored:
        try:
            for path, entry in selected(self._request, self._tree, self._damaged_tree):
                self._stop()
                self._make(path, entry)
            self._submit_batch()
            self._wait()
            for path, first, entry in self._links:
                self._make_link(path, first, entry)
            self._submit_batch()
            self._wait()
        finally:
            # Nothing is cancelled: the last section of a large file that failed takes the file away.
            self._pool.shutdown(wait=True)
        self._finish_directories()
        return self._result

    def _damaged_tree(self, error: IntegrityFailure) -> None:
        if not self._request.keep_going:
            raise error
        self._result.damage.append(Problem(b"", error.message))
        self._progress.note(error.message)

    # -- items in order ----------------------------------------------------------------------------

    def _make(self, path: bytes, entry: Entry) -> None:
        if entry.kind == Kind.FILE:
            if entry.links > 1:
                first = self._first_names.setdefault((entry.device, entry.inode), path)
                if first != path:
                    self._links.append((path, first, entry))
                    return
            self._make_file(path, entry)
            return
        with self._item(path):
            if entry.kind == Kind.DIRECTORY:
                self._target.make_directory(path)
                self._result.directories += 1
            else:
                self._count(made=self._target.make_special(path, entry), others=1)
            self._progress.advance(items=1)

    def _make_file(self, path: bytes, entry: Entry) -> None:
        if entry.size > _BATCH_BYTES:
            self._submit_batch()
            if self._request.in_order:
                self._wait()
            with self._item(path, entry.size):
                self._make_large(path, entry)
            return
        if self._batch_bytes + entry.size > _BATCH_BYTES or len(self._batch) >= _BATCH_FILES:
            self._submit_batch()
        self._batch.append((path, entry))
        self._batch_bytes += entry.size

    def _make_link(self, path: bytes, first: bytes, entry: Entry) -> None:
        if first in self._not_made:
            self._make_file(path, entry)
            return
        with self._item(path):
            self._count(made=self._target.make_link(path, first), files=1)
            self._progress.advance(items=1)

    def _submit_batch(self) -> None:
        if self._batch:
            batch, self._batch, self._batch_bytes = self._batch, [], 0
            self._submit(lambda: self._restore_batch(batch))

    def _submit(self, work: Callable[[], None]) -> None:
        self._wait_for_room()
        self._under_way.append(self._pool.submit(work))

    def _wait_for_room(self) -> None:
        while len(self._under_way) >= (1 if self._request.in_order else _UNDER_WAY):
            self._under_way.popleft().result()

    def _wait(self) -> None:
        while self._under_way:
            self._under_way.popleft().result()

    # -- small files, many at once -----------------------------------------------------------------

    def _restore_batch(self, batch: list[tuple[bytes, Entry]]) -> None:
        ids = [list(self._ids(path, entry)) for path, entry in batch]
        fetched = self._reader.fetch([chunk for chunks in ids for chunk in chunks], self._uses)
        new: list[tuple[NewFile, list[bytes]]] = []
        for (path, entry), chunks in zip(batch, ids, strict=True):
            with self._item(path, entry.size):
                if not self._is_there(path, entry, chunks, fetched):
                    new.append((NewFile(path, entry, _pieces(entry, chunks, fetched)), chunks))
        outcomes = self._target.write_files([file for file, _ in new])
        for (file, chunks), outcome in zip(new, outcomes, strict=True):
            with self._item(file.path, file.entry.size):
                if isinstance(outcome, Exception):
                    raise outcome
                if outcome:
                    self._finished(file.path, file.entry, chunks, fetched)
                else:
                    self._keep(file.path)
        size = sum(entry.size for _, entry in batch)
        self._progress.advance(items=len(batch), size_bytes=size, current=os.fsdecode(batch[-1][0]))

    def _ids(self, path: bytes, entry: Entry) -> Iterator[bytes]:
        with self._item(path):
            yield from self._tree.chunk_ids(entry)

    def _is_there(self, path: bytes, entry: Entry, ids: list[bytes], fetched: Fetched) -> bool:
        """Whether the content is there already, under a policy that asks for that."""
        if self._request.overwrite is not Overwrite.IF_DIFFERENT or not self._matches(
            path, entry, ids, fetched
        ):
            return False
        self._target.refresh_file(path, entry)
        with self._lock:
            self._result.kept += 1
        return True

    def _matches(self, path: bytes, entry: Entry, ids: list[bytes], fetched: Fetched) -> bool:
        fd = self._target.open_existing(path)
        if fd is None:
            return False
        try:
            return has_content(fd, entry, ids, [fetched.length(chunk) for chunk in ids], self._reader)
        finally:
            os.close(fd)

    def _finished(self, path: bytes, entry: Entry, ids: list[bytes], fetched: Fetched) -> None:
        if self._request.verify:
            if not self._matches(path, entry, ids, fetched):
                msg = f"{os.fsdecode(path)}: reads back differently from what was written"
                raise IntegrityFailure(msg, hint="Check the target's disk.")
            with self._lock:
                self._result.verified += 1
        with self._lock:
            self._result.files += 1
            self._result.size_bytes += entry.size

    # -- large files, many threads for one ---------------------------------------------------------

    def _make_large(self, path: bytes, entry: Entry) -> None:
        ids = list(self._tree.chunk_ids(entry))
        described = self._reader.describe(ids, self._uses)
        if self._is_there(path, entry, ids, described):
            return
        writer = self._target.create_file(path, entry)
        if writer is None:
            self._keep(path)
            return
        large = _Large(path, entry, writer)
        placer = Placer(entry)
        try:
            for start in range(0, len(ids), _SECTION_CHUNKS):
                self._stop()
                self._wait_for_room()  # raises what went wrong meanwhile, before this section counts
                section = ids[start : start + _SECTION_CHUNKS]
                places = [list(placer.place(described.length(chunk))) for chunk in section]
                with large.lock:
                    large.pending += 1
                self._submit(lambda s=section, p=places: self._restore_section(large, s, p))  # type: ignore[misc]  # bound now
            placer.check_complete()
        except BaseException:
            large.failed = True
            self._end_section(large, ids, described)
            raise
        self._end_section(large, ids, described)

    def _restore_section(self, large: _Large, ids: list[bytes], places: list[list[tuple[int, int]]]) -> None:
        try:
            with self._item(large.path, sum(size for place in places for _, size in place)):
                fetched = self._reader.fetch(ids, self._uses)
                for chunk, place in zip(ids, places, strict=True):
                    data = memoryview(fetched.chunk(chunk))
                    at = 0
                    for offset, size in place:
                        large.writer.write_at(offset, data[at : at + size])
                        at += size
                    self._progress.advance(size_bytes=at, current=os.fsdecode(large.path))
                return
            large.failed = True
        except BaseException:
            large.failed = True
            raise
        finally:
            all_ids = list(self._tree.chunk_ids(large.entry)) if self._request.verify else []
            self._end_section(large, all_ids, None)

    def _end_section(self, large: _Large, ids: list[bytes], described: Fetched | None) -> None:
        with large.lock:
            large.pending -= 1
            if large.pending:
                return
        if large.failed:
            large.writer.abort()
            return
        with self._item(large.path):
            large.writer.finish()
            self._finished(large.path, large.entry, ids, described or self._reader.describe(ids, self._uses))
            self._progress.advance(items=1)

    # -- what went wrong ---------------------------------------------------------------------------

    @contextmanager
    def _item(self, path: bytes, size_bytes: int = 0) -> Iterator[None]:
        """Errors inside concern this item alone, except those that concern everything."""
        try:
            yield
        except IntegrityFailure as error:
            if not self._request.keep_going:
                raise
            self._fail(self._result.damage, path, error.message)
        except StoreError:
            raise
        except (OSError, DonjonError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                msg = f"{os.fsdecode(path)}: no room left for {size_bytes} bytes"
                raise StoreFull(msg, hint="Make room, and run the restore again: it goes on.") from error
            self._fail(self._result.problems, path, getattr(error, "strerror", None) or str(error))

    def _fail(self, where: list[Problem], path: bytes, why: str) -> None:
        with self._lock:
            where.append(Problem(path, why))
            self._not_made.add(path)
        self._progress.note(f"{os.fsdecode(path)}: {why}")

    def _keep(self, path: bytes) -> None:
        with self._lock:
            self._result.kept += 1
            self._not_made.add(path)

    def _count(self, *, made: bool, files: int = 0, others: int = 0) -> None:
        with self._lock:
            if made:
                self._result.files += files
                self._result.others += others
            else:
                self._result.kept += 1

    # -- directories -------------------------------------------------------------------------------

    def _finish_directories(self) -> None:
        stack: list[tuple[bytes, Entry]] = []
        for path, entry in selected(self._request, self._tree, lambda _: None):
            if entry.kind != Kind.DIRECTORY:
                continue
            while stack and not path.startswith(stack[-1][0] + b"/"):
                self._finish_directory(*stack.pop())
            stack.append((path, entry))
        while stack:
            self._finish_directory(*stack.pop())

    def _finish_directory(self, path: bytes, entry: Entry) -> None:
        if path not in self._not_made:
            with self._item(path):
                self._target.finish_directory(path, entry)


def _pieces(entry: Entry, ids: list[bytes], fetched: Fetched) -> list[tuple[int, memoryview]]:
    """The data of a file and where it belongs. Raises ``IntegrityFailure`` unless it is all of it."""
    placer = Placer(entry)
    pieces = []
    for chunk in ids:
        data = memoryview(fetched.chunk(chunk))
        at = 0
        for offset, size in placer.place(len(data)):
            pieces.append((offset, data[at : at + size]))
            at += size
    placer.check_complete()
    return pieces
