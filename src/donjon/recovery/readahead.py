"""Reads in advance what is likely to be asked for next: the rest of a file, the files that follow.

Two threads do so while the reader is busy with what it has; fetching, opening and decompressing need no
interpreter, so on two processors both go on at once. It is a guess: what fails here fails again, and is
reported, when it is asked for.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from donjon.core.errors import DonjonError
from donjon.core.units import MIB
from donjon.recovery.ranges import ChunkCache, FileRanges
from donjon.recovery.view import TreeView
from donjon.repository.tree import sort_key

_WINDOW_BYTES = 4 * MIB
_WINDOW_FILES = 256
_CHUNKS = 4
_MAX_WAITING = 4


class ReadAhead:
    """Fills a cache of chunks. Safe to share between threads."""

    def __init__(self, cache: ChunkCache) -> None:
        self._cache = cache
        self._pool = ThreadPoolExecutor(2, "donjon-readahead")
        self._lock = threading.Lock()
        self._waiting = 0
        # Of the last files opened: the sort key, how far ahead was read, and how many files that were.
        self._last = b""
        self._frontier = b""
        self._left = 0

    def opened(self, view: TreeView, path: bytes) -> None:
        """A file was opened. Files opened in order make the next ones likely."""
        key = sort_key(path)
        with self._lock:
            in_order = self._last < key and _parent(self._last) == _parent(key)
            inside = in_order or self._last < key <= self._frontier
            self._last = key
            if not inside:
                self._frontier, self._left = b"", 0
                return
            self._left -= 1
            if self._left > 0 and key < self._frontier:
                return
            start = max(key, self._frontier)
        found, end = view.following_files(start, _WINDOW_FILES, _WINDOW_BYTES)
        with self._lock:
            self._frontier, self._left = end, len(found) // 2
        self._submit(view, [chunk for entry in found for chunk in view.tree.chunk_ids(entry)])

    def has_read(self, file: FileRanges, offset: int, length: int) -> None:
        """A part of a file was read. The chunks after it are next."""
        if file.size > offset + length:
            chunks = file.next_chunks(offset, length, _CHUNKS)
            if chunks:
                self._submit(file.view, chunks)

    def close(self) -> None:
        """Stop; what is under way ends first."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, view: TreeView, chunks: Sequence[bytes]) -> None:
        with self._lock:
            if self._waiting >= _MAX_WAITING or not chunks:
                return
            self._waiting += 1
        with contextlib.suppress(RuntimeError):  # closed already
            self._pool.submit(self._work, view, chunks)

    def _work(self, view: TreeView, chunks: Sequence[bytes]) -> None:
        try:
            for chunk in chunks:
                with contextlib.suppress(DonjonError):
                    self._cache.get(view, chunk)
        finally:
            with self._lock:
                self._waiting -= 1


def _parent(key: bytes) -> bytes:
    return key.rpartition(b"\0")[0]
