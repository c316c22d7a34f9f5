"""What differs between two points: a merge of their sorted streams of entries, in constant memory.

A segment that both have at the same place is skipped without being read, so comparing two huge and
nearly equal trees costs about as much as their differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from donjon.core.errors import IntegrityFailure
from donjon.format.entries import Entry, Kind
from donjon.format.segments import SegmentRecord
from donjon.repository.tree import Tree, sort_key


class Change(StrEnum):
    """What happened to an item."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """One item that differs. ``aspects`` tell what changed: type, content, mode, owner, time, attributes."""

    change: Change
    path: bytes
    old: Entry | None
    new: Entry | None
    aspects: tuple[str, ...] = ()


@dataclass(slots=True)
class Effort:
    """How many segments the two points have, and how many of them were not read."""

    segments: int = 0
    skipped: int = 0


def compare(old: Tree, new: Tree, effort: Effort | None = None) -> Iterator[Difference]:
    """Everything that differs, in the order of the tree. Raises ``IntegrityFailure``."""
    effort = effort or Effort()
    left, right = _Cursor(old, effort), _Cursor(new, effort)
    while not (left.ended and right.ended):
        if left.unread is not None and left.unread == right.unread:
            effort.skipped += 2
            left.skip()
            right.skip()
        elif right.ended or (not left.ended and left.key < right.key):
            path, entry = left.take()
            yield Difference(Change.REMOVED, path, entry, None)
        elif left.ended or right.key < left.key:
            path, entry = right.take()
            yield Difference(Change.ADDED, path, None, entry)
        else:
            (path, before), (_, after) = left.take(), right.take()
            if aspects := changed_aspects(before, after):
                yield Difference(Change.CHANGED, path, before, after, aspects)


def changed_aspects(old: Entry, new: Entry) -> tuple[str, ...]:
    """What differs between two versions of an item.

    The change time, the inode and the number of links say nothing about the item itself.
    """
    if old.kind != new.kind:
        return ("type",)
    found = []
    if content_of(old) != content_of(new):
        found.append("content")
    if old.mode != new.mode:
        found.append("mode")
    if (old.uid, old.gid, old.user, old.group) != (new.uid, new.gid, new.user, new.group):
        found.append("owner")
    if (old.mtime_s, old.mtime_ns) != (new.mtime_s, new.mtime_ns):
        found.append("time")
    if old.xattrs != new.xattrs:
        found.append("attributes")
    return tuple(found)


def content_of(entry: Entry) -> tuple[object, ...]:
    """Equal for entries with equal content: chunks of files, targets of links, numbers of devices."""
    if entry.kind == Kind.FILE:
        return (entry.size, entry.chunks, entry.indirect, entry.extents)
    return (entry.target, entry.rdev)


class _Cursor:
    """Where the merge is in one point; ``unread`` is the segment it is about to enter, if any.

    ``key`` sorts the next item, and is known without reading the segment that starts with it.
    """

    def __init__(self, tree: Tree, effort: Effort) -> None:
        self._tree = tree
        self._effort = effort
        self._records = tree.segments()
        self._entries: list[tuple[bytes, Entry]] = []
        self._at = 0
        self.unread: SegmentRecord | None = None
        self.ended = False
        self.key = b""
        self._next_record()

    def take(self) -> tuple[bytes, Entry]:
        """The next item."""
        if self.unread is not None:
            self._entries, self._at, self.unread = self._tree.read_segment(self.unread), 0, None
        path, entry = self._entries[self._at]
        self._at += 1
        if self._at < len(self._entries):
            self._move_to(self._entries[self._at][0])
        else:
            self._next_record()
        return path, entry

    def skip(self) -> None:
        """Pass over the segment that is not read yet."""
        self._next_record()

    def _next_record(self) -> None:
        for record in self._records:
            if record.entries:
                self._effort.segments += 1
                self.unread = record
                self._move_to(record.first_path)
                return
        self.unread, self.ended = None, True

    def _move_to(self, path: bytes) -> None:
        key = sort_key(path)
        if key <= self.key:
            msg = f"point {self._tree.point.point_id.hex()[:12]}: its metadata is out of order at {path!r}"
            raise IntegrityFailure(msg)
        self.key = key
