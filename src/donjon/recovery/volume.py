"""Restores one file of a point as a disk: to a device, an image file or a snapshot of a cloud.

Any file will do, however it was cut: a volume of one cloud, an image file, a device.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from donjon.core.errors import IntegrityFailure, PathNotFound
from donjon.core.events import Progress, StopCheck, never_stop
from donjon.core.tuning import prepare_for_bulk_work, worker_count
from donjon.core.units import MIB
from donjon.format.entries import Entry, Kind
from donjon.recovery.ranges import ChunkCache, FileRanges
from donjon.recovery.view import TreeView
from donjon.targets.volume import VolumeTarget

_WINDOW_BYTES = 4 * MIB
_MAX_THREADS = 64


@dataclass(frozen=True, slots=True)
class RestoredVolume:
    """``size_bytes`` of a volume, of which ``data_bytes`` were written. ``made`` is what there is now."""

    size_bytes: int
    data_bytes: int
    verified: bool
    made: str
    notes: tuple[str, ...]


def find_volume(view: TreeView, path: bytes) -> tuple[bytes, Entry]:
    """The file at ``path``, or the only file of the point for an empty one. Raises ``PathNotFound``."""
    if path:
        entry = view.get(path)
        if entry.kind != Kind.FILE:
            msg = f"/{os.fsdecode(path)}: is no file, and so no volume"
            raise PathNotFound(msg, hint="Look for it with `donjon ls POINT`.")
        return path, entry
    files = []
    for found, entry in view.entries():
        if entry.kind == Kind.FILE:
            files.append((found, entry))
            if len(files) > 1:
                break
    if len(files) != 1:
        msg = f"point {view.point.point_id.hex()[:12]}: has {'several files' if files else 'no file'}"
        raise PathNotFound(msg, hint="Name the volume, as in POINT:/dev/sda; see `donjon ls POINT`.")
    return files[0]


def restore_volume(
    view: TreeView,
    entry: Entry,
    target: VolumeTarget,
    progress: Progress,
    stop: StopCheck = never_stop,
    *,
    verify: bool = False,
) -> RestoredVolume:
    """Carry it out; what is unfinished is thrown away if that fails or is interrupted.

    Raises ``IntegrityFailure`` for damage in the vault and for what reads back differently, and errors of
    the target. The caller closes the target.
    """
    prepare_for_bulk_work()
    work = _Work(view, entry, target, progress, stop)
    target.begin(entry.size)
    try:
        work.write()
        target.finish()
    except BaseException:
        target.abort()
        raise
    if verify:
        work.compare()
    made, notes = target.made()
    return RestoredVolume(entry.size, work.data_bytes, verify, made, tuple(notes))


class _Work:
    def __init__(
        self, view: TreeView, entry: Entry, target: VolumeTarget, progress: Progress, stop: StopCheck
    ) -> None:
        self._file = FileRanges(view, entry, ChunkCache())
        self._identify = view.reader.identify  # 32 bytes for 4 MiB
        self._entry = entry
        self._target = target
        self._progress, self._stop = progress, stop
        self._name = os.fsdecode(entry.name)
        self._threads = min(max(worker_count(), target.parallel), _MAX_THREADS)
        self._digests: dict[int, bytes] = {}
        self.data_bytes = 0

    def write(self) -> None:
        """Write all data, and clear all else."""

        def copy(offset: int, length: int) -> None:
            data = self._file.read(offset, length)
            self._digests[offset] = self._identify(data)
            self._target.write_at(offset, data)

        self._each(self._clearing(), copy)

    def _clearing(self) -> Iterator[tuple[int, int]]:
        at = 0
        for offset, length in self._windows():
            if offset > at:
                self._target.clear(at, offset - at)
            yield offset, length
            at = offset + length
            self.data_bytes += length
        if at < self._entry.size:
            self._target.clear(at, self._entry.size - at)

    def compare(self) -> None:
        """Read everything back. Raises ``IntegrityFailure``."""

        def check(offset: int, length: int) -> None:
            known = self._digests.get(offset)
            if known is None:
                same = self._target.is_zero(offset, length)
            else:
                data = self._target.read_at(offset, length)
                same = len(data) == length and self._identify(data) == known
            if not same:
                msg = f"{self._name}: reads back differently from what was written, at offset {offset}"
                raise IntegrityFailure(msg, hint="Check the disk, and restore to another one.")

        self._each(self._everywhere(), check)

    def _everywhere(self) -> Iterator[tuple[int, int]]:
        at = 0
        for offset, length in (*self._windows(), (self._entry.size, 0)):
            for start in range(at, offset, _WINDOW_BYTES):
                yield start, min(_WINDOW_BYTES, offset - start)
            if length:
                yield offset, length
            at = offset + length

    def _windows(self) -> Iterator[tuple[int, int]]:
        """(offset, length) of all data, in units of the target; each within one window."""
        unit, size = self._target.unit_bytes, self._entry.size
        at = 0
        extents = ((0, size),) if self._entry.extents is None else self._entry.extents
        for offset, length in extents:
            start = max(offset // unit * unit, at)
            end = min(-(-(offset + length) // unit) * unit, size)
            while start < end:
                following = min((start // _WINDOW_BYTES + 1) * _WINDOW_BYTES, end)
                yield start, following - start
                start = following
            at = max(at, end)

    def _each(self, places: Iterator[tuple[int, int]], work: Callable[[int, int], None]) -> None:
        under_way: deque[tuple[int, Future[None]]] = deque()
        stop = self._stop
        pool = ThreadPoolExecutor(self._threads, "donjon-volume")
        try:
            for offset, length in places:
                stop()
                under_way.append((length, pool.submit(work, offset, length)))
                while under_way and (under_way[0][1].done() or len(under_way) > 2 * self._threads):
                    self._take(*under_way.popleft())
            while under_way:
                stop()
                self._take(*under_way.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _take(self, length: int, done: Future[None]) -> None:
        done.result()
        self._progress.advance(size_bytes=length, current=self._name)
