"""A recovery point as something to look around in: any path, any directory, in any order.

Only the segments that hold what is asked for are read, and a bounded number of them is kept, so looking
into one directory costs the same in a small tree and in a huge one.
"""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from donjon.core.errors import IntegrityFailure, PathNotFound
from donjon.format.entries import Entry, Kind
from donjon.format.segments import SegmentRecord
from donjon.repository.points import OpenPoint
from donjon.repository.reading import ChunkReader
from donjon.repository.tree import Tree, sort_key

#: Entries are kept up to this many, at about 0.6 KiB each.
_MAX_KEPT_ENTRIES = 65_536

#: The root of a point; it has no entry of its own.
ROOT = Entry(depth=-1, name=b"", kind=int(Kind.DIRECTORY), mode=0o755)


@dataclass(frozen=True, slots=True)
class _Segment:
    """One segment: its entries by path, the paths in order, and their sort keys, ascending."""

    entries: dict[bytes, Entry]
    paths: list[bytes]
    keys: list[bytes]


class TreeView:
    """Looks up single paths of one point. Safe to share between threads.

    Paths are relative to the root of the point; the root itself is the empty path. Every method raises
    ``IntegrityFailure`` if what it needs is damaged.
    """

    def __init__(
        self, point: OpenPoint, reader: ChunkReader, max_kept_entries: int = _MAX_KEPT_ENTRIES
    ) -> None:
        self._max_kept_entries = max_kept_entries
        self.point = point
        self.reader = reader
        self.uses = point.point.uses
        self.tree = Tree(point, reader)
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, _Segment] = OrderedDict()
        self._kept_entries = 0

    def lookup(self, path: bytes) -> Entry | None:
        """The entry of one path, or None."""
        if not path:
            return ROOT
        number = bisect_right(self._starts, sort_key(path)) - 1
        return self._segment(number).entries.get(path) if number >= 0 else None

    def get(self, path: bytes) -> Entry:
        """The entry of one path. Raises ``PathNotFound``."""
        entry = self.lookup(path)
        if entry is None:
            text = "/" + path.decode("utf-8", "backslashreplace")
            msg = f"{text}: is not in point {self.point.point_id.hex()[:12]}"
            raise PathNotFound(msg, hint="Look around with `donjon ls POINT` or `donjon find`.")
        return entry

    def children(self, path: bytes) -> Iterator[tuple[bytes, Entry]]:
        """(path, entry) of what is right inside a directory, in order; nothing for a file."""
        prefix = sort_key(path) + b"\0" if path else b""
        depth = path.count(b"/") + 1 if path else 0
        wanted = prefix  # the smallest sort key that may come next
        number = max(bisect_right(self._starts, wanted) - 1, 0)
        while number < len(self._records):
            segment = self._segment(number)
            at = bisect_left(segment.keys, wanted)
            while at < len(segment.keys):
                key = segment.keys[at]
                if not key.startswith(prefix):
                    return
                found = segment.paths[at]
                entry = segment.entries[found]
                if entry.depth == depth:
                    yield found, entry
                # What is inside of it has its key and a zero byte in front: go on after all of that.
                wanted = key + b"\1" if entry.kind == Kind.DIRECTORY else key + b"\0"
                at = bisect_left(segment.keys, wanted, at + 1)
            number = max(number + 1, bisect_right(self._starts, wanted) - 1)
            if number < len(self._starts):
                start = self._starts[number]
                if start > wanted and not start.startswith(prefix):
                    return

    def following_files(self, key: bytes, most: int, size_bytes: int) -> tuple[list[Entry], bytes]:
        """Files after a sort key, at most so many or until they have this size, and the last one's key.

        They end with the segment, at the latest. Files that are larger than that are left out.
        """
        number = max(bisect_right(self._starts, key) - 1, 0)
        if number >= len(self._records):
            return [], key
        segment = self._segment(number)
        at = bisect_right(segment.keys, key)
        if at == len(segment.keys) and number + 1 < len(self._records):
            segment, at = self._segment(number + 1), 0
        found: list[Entry] = []
        for place in range(at, len(segment.keys)):
            entry = segment.entries[segment.paths[place]]
            if entry.kind == Kind.FILE and entry.chunks and entry.size <= size_bytes and not entry.indirect:
                found.append(entry)
                size_bytes -= entry.size
            key = segment.keys[place]
            if len(found) == most or size_bytes < (1 << 14):
                break
        return found, key

    def entries(self, under: bytes = b"") -> Iterator[tuple[bytes, Entry]]:
        """(path, entry) of an item and all below it, in order."""
        return self.tree.entries(under)

    @cached_property
    def _records(self) -> list[SegmentRecord]:
        return list(self.tree.segments())

    @cached_property
    def _starts(self) -> list[bytes]:
        starts = [sort_key(record.first_path) for record in self._records]
        if any(second <= first for first, second in itertools.pairwise(starts)):
            msg = f"point {self.point.point_id.hex()[:12]}: its metadata segments are out of order"
            raise IntegrityFailure(msg)
        return starts

    def _segment(self, number: int) -> _Segment:
        with self._lock:
            if (kept := self._kept.get(number)) is not None:
                self._kept.move_to_end(number)
                return kept
        entries = dict(self.tree.read_segment(self._records[number]))
        segment = _Segment(entries, list(entries), [sort_key(path) for path in entries])
        if number + 1 < len(self._starts) and segment.keys and segment.keys[-1] >= self._starts[number + 1]:
            msg = f"point {self.point.point_id.hex()[:12]}: a metadata segment reaches into the next"
            raise IntegrityFailure(msg)
        with self._lock:
            if number not in self._kept:
                self._kept[number] = segment
                self._kept_entries += len(entries)
            while self._kept_entries > self._max_kept_entries and len(self._kept) > 1:
                self._kept_entries -= len(self._kept.popitem(last=False)[1].keys)
        return segment
