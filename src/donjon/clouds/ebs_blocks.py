"""Reading any bytes of a snapshot of EBS."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from donjon.clouds.ebs import BLOCK_BYTES, EbsDirect, Page
from donjon.core.errors import DonjonError

_WINDOWS = 4
#: How often a block whose token is refused is listed again: it may have ended meanwhile, or be no good.
_LISTINGS = 4


@dataclass(frozen=True, slots=True)
class _Window:
    """What a listing told of all blocks from ``first`` to before ``end``."""

    first: int
    end: int
    tokens: Page


class SnapshotReader:
    """One snapshot. Safe to share between threads.

    Blocks are read with tokens, which end after 7 days. They are not kept for the whole volume, which would
    take gigabytes for a large one, but listed again where they are needed: a request for 5 GiB.
    """

    def __init__(self, direct: EbsDirect, snapshot: str) -> None:
        self._direct = direct
        self._snapshot = snapshot
        self._windows: OrderedDict[int, _Window] = OrderedDict()
        self._lock = threading.Lock()
        self._last: tuple[int, bytes] = (-1, b"")

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer with what is there. Raises what ``EbsDirect`` does."""
        done = 0
        while done < len(buffer):
            index, inside = divmod(offset + done, BLOCK_BYTES)
            size = min(BLOCK_BYTES - inside, len(buffer) - done)
            piece = buffer[done : done + size]
            if size == BLOCK_BYTES:
                if not self._get(index, piece):
                    piece[:] = bytes(size)
            else:
                piece[:] = self._part(index)[inside : inside + size]
            done += size

    def is_zero(self, offset: int, length: int) -> bool:
        """Whether all of this reads as zeros."""
        block = bytearray(BLOCK_BYTES)
        for index in range(offset // BLOCK_BYTES, -(-(offset + length) // BLOCK_BYTES)):
            with memoryview(block) as view:
                if self._get(index, view) and block.count(0) != BLOCK_BYTES:
                    return False
        return True

    def _part(self, index: int) -> bytes:
        """A block of which more will be wanted, so it is kept until another one is."""
        known, data = self._last
        if known != index:
            block = bytearray(BLOCK_BYTES)
            with memoryview(block) as view:
                self._get(index, view)
            data = bytes(block)
            self._last = (index, data)
        return data

    def _get(self, index: int, block: memoryview) -> bool:
        """Read one block; False if it was never written."""
        for attempt in range(1, _LISTINGS + 1):
            token = self._token(index)
            if token is None:
                break
            try:
                self._direct.get_block(self._snapshot, index, token, block)
            except DonjonError as error:
                if "INVALID_BLOCK_TOKEN" not in error.message or attempt == _LISTINGS:
                    raise
            else:
                return True
            with self._lock:
                self._windows.clear()
        return False

    def _token(self, index: int) -> str | None:
        """What reads a block, None for one that was never written."""
        with self._lock:
            for window in self._windows.values():
                if window.first <= index < window.end:
                    self._windows.move_to_end(window.first)
                    return window.tokens.get(index)
            window = self._list(index)
            self._windows[window.first] = window
            if len(self._windows) > _WINDOWS:
                self._windows.popitem(last=False)
            return window.tokens.get(index)

    def _list(self, index: int) -> _Window:
        for page in self._direct.list_blocks(self._snapshot, index):
            if page:
                return _Window(index, max(page) + 1, page)
        return _Window(index, 1 << 62, {})


def ranges(pages: Iterable[Page]) -> Iterator[tuple[int, int]]:
    """(offset, length) of the blocks of a listing; those side by side on a page are one."""
    for page in pages:
        first = end = -1
        for index in sorted(page):
            if index != end:
                if end > first:
                    yield first * BLOCK_BYTES, (end - first) * BLOCK_BYTES
                first = index
            end = index + 1
        if end > first:
            yield first * BLOCK_BYTES, (end - first) * BLOCK_BYTES
