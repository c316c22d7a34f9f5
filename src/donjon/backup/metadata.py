"""Turns the stream of entries of a new point into stored segments, reusing those of the previous point."""

from __future__ import annotations

from collections.abc import Iterator

from donjon.backup.previous import NextPrevious, OldSegment, chunk_ids
from donjon.codec.digest import chunk_id
from donjon.format.entries import Entry
from donjon.format.pack import PackKind
from donjon.format.segments import (
    Problem,
    SegmentRecord,
    encode_problems,
    encode_root,
    encode_segment,
    ends_segment,
    weight,
)
from donjon.repository.writing import PackNumber, WriteSession

#: Where an unchanged entry comes from: its segment and its place in it.
Origin = tuple[OldSegment, int, int]


class SegmentWriter:
    """Takes the entries of a point in order. A segment that comes through whole is not even encoded."""

    def __init__(self, session: WriteSession, following: NextPrevious) -> None:
        self._session = session
        self._following = following
        self._names: list[bytes] = []
        self._entries: list[Entry] = []
        self._kept: list[tuple[Entry, OldSegment]] = []
        self._lists: dict[bytes, bytes] = {}
        self._weight = 0
        self._first_path = b""
        # While all entries so far are the first ones of one old segment, in order:
        self._old: OldSegment | None = None
        self._old_size = 0

    def add(self, entry: Entry, origin: Origin | None, lists: dict[bytes, bytes] | None = None) -> None:
        """The next entry. ``origin`` tells that it is an unchanged entry of the previous point.

        ``lists`` are the id lists of a large file that this session read.
        """
        entries = self._entries
        depth, names, count = entry.depth, self._names, len(entries)
        del names[depth:]
        names.append(entry.name)
        if count == 0:
            self._first_path = b"/".join(names)
            if origin is not None and origin[1] == 0 and origin[0].record.first_path == self._first_path:
                self._old, self._old_size = origin[0], origin[2]
        entries.append(entry)
        if origin is not None:
            self._kept.append((entry, origin[0]))
            if self._old is origin[0] and origin[1] == count:
                # The same entries since the same start end where they ended before; but the last segment
                # may have ended with the tree alone.
                if count + 1 < self._old_size:
                    return
                if not self._old.is_last or ends_segment(entry, count + 1, sum(map(weight, entries))):
                    self._reuse(self._old)
                return
        if self._old is not None:
            self._old = None
            self._weight = sum(map(weight, entries))
        else:
            self._weight += weight(entry)
        if lists:
            self._lists.update(lists)
        if ends_segment(entry, len(entries), self._weight):
            self._encode()

    def finish(self) -> bytes:
        """Store the last segment and the root; the ids of the root's chunks, end to end."""
        if self._entries:
            if self._old is not None and self._old.is_last and len(self._entries) == self._old_size:
                self._reuse(self._old)
            else:
                self._encode()
        return b"".join(self._store(data) for data in encode_root(self._following.records))

    def store_problems(self, problems: list[Problem]) -> bytes:
        """Store the list of problems; the ids of its chunks, end to end."""
        return b"".join(self._store(data) for data in encode_problems(problems))

    def _reuse(self, old: OldSegment) -> None:
        if old.packs is None or not self._session.may_use(old.packs):
            self._encode()
            return
        self._session.use_packs(old.packs)
        self._following.add(old)
        self._reset()

    def _encode(self) -> None:
        for entry, old in self._kept:
            if entry.indirect:
                self._lists.update((chunk, old.lists.get(chunk, b"")) for chunk in chunk_ids(entry.chunks))
        data = encode_segment(self._entries)
        record = SegmentRecord(self._store(data), self._first_path, len(self._entries))
        self._following.add(OldSegment(record, self._packs(record), data, lists=self._lists))
        self._reset()

    def _packs(self, record: SegmentRecord) -> frozenset[PackNumber] | None:
        """The packs that a segment and its files need, which count as used from here on.

        None if one cannot be told yet: then the next backup asks for every chunk instead.
        """
        place, lists = self._session.place, self._lists
        packs = {place(record.chunk)}
        for entry in self._entries:
            if ids := entry.chunks:
                packs.update(map(place, chunk_ids(ids)))
                if entry.indirect:
                    packs.update(place(data) for chunk in chunk_ids(ids) for data in chunk_ids(lists[chunk]))
        known = frozenset(pack for pack in packs if pack is not None)
        return known if len(known) == len(packs) else None

    def _reset(self) -> None:
        self._entries = []
        self._kept = []
        self._lists = {}
        self._weight = 0
        self._old = None

    def _store(self, data: bytes) -> bytes:
        identity = chunk_id(self._session.chunk_id_key, data)
        if self._session.claim(identity):
            self._session.store(PackKind.METADATA, memoryview(data), [(identity, len(data))])
        return identity


class PreviousCursor:
    """Walks the previous point beside the new walk; both are sorted the same way.

    Both cursors are always inside the same directory or one of them is deeper, so comparing depth and
    name is enough to merge, without building a path.
    """

    def __init__(self, segments: Iterator[OldSegment]) -> None:
        self._segments = segments
        self._segment: OldSegment | None = None
        self._entries: list[Entry] = []
        self._at = 0
        self._next_segment()

    def match(self, depth: int, name: bytes) -> tuple[Entry, Origin] | None:
        """The entry at the place of this item of the walk, which comes in order; None if it is new."""
        while self._segment is not None:
            entry = self._entries[self._at]
            if entry.depth < depth or (entry.depth == depth and entry.name > name):
                return None
            origin = (self._segment, self._at, len(self._entries))
            self._at += 1
            if self._at == len(self._entries):
                self._next_segment()
            if entry.depth == depth and entry.name == name:
                return entry, origin
        return None

    def _next_segment(self) -> None:
        self._at = 0
        for segment in self._segments:
            entries = segment.entries()
            if entries:
                self._segment, self._entries = segment, entries
                return
        self._segment, self._entries = None, []


class Reliability:
    """Whether what the previous point holds is stored where a session may rely on it."""

    def __init__(self, session: WriteSession) -> None:
        self._session = session
        self._checked: OldSegment | None = None
        self._holds = False

    def holds(self, entry: Entry, origin: Origin) -> bool:
        """Whether the content of an old entry is in packs that this session may rely on."""
        segment = origin[0]
        if segment is not self._checked:
            self._checked = segment
            self._holds = segment.packs is not None and self._session.may_use(segment.packs)
        if self._holds or not entry.chunks:
            return True
        ids = chunk_ids(entry.chunks)
        if entry.indirect:
            ids += [data for chunk in ids for data in chunk_ids(segment.lists.get(chunk, b""))]
            if any(chunk not in segment.lists for chunk in chunk_ids(entry.chunks)):
                return False
        return all(self._session.has(chunk) for chunk in ids)
