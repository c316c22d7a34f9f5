"""Reads the tree of a recovery point as the stream of entries that it is."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator

from donjon.codec.chunk import MAX_CHUNK_BYTES
from donjon.core.errors import IntegrityFailure
from donjon.format.entries import CHUNK_ID_BYTES, Entry
from donjon.format.segments import (
    Order,
    Problem,
    SegmentRecord,
    decode_problems,
    decode_root,
    decode_segment,
)
from donjon.repository.points import OpenPoint
from donjon.repository.reading import ChunkReader

#: Told of a damaged part of the tree, which is then left out.
Damage = Callable[[IntegrityFailure], None]


class Tree:
    """The entries of one point. Paths are relative to the root, so ``/srv/web`` is ``srv/web``."""

    def __init__(self, point: OpenPoint, chunks: ChunkReader) -> None:
        self.point = point
        self._chunks = chunks
        self._uses = point.point.uses
        self._what = f"point {point.point_id.hex()[:12]}"

    def segments(self, damage: Damage | None = None) -> Iterator[SegmentRecord]:
        """The list of segments."""
        for chunk in split_ids(self.point.body.roots):
            try:
                yield from decode_root(self._chunks.read_one(chunk, self._uses), self._what)
            except IntegrityFailure as error:
                _report(error, damage)

    def entries(self, under: bytes = b"", damage: Damage | None = None) -> Iterator[tuple[bytes, Entry]]:
        """(path, entry) in order; with ``under`` only that item and what is below it.

        Raises ``IntegrityFailure`` for a damaged segment, or tells ``damage`` and goes on after it.
        """
        records: Iterator[SegmentRecord] | list[SegmentRecord] = self.segments(damage)
        wanted, inside = sort_key(under), sort_key(under) + b"\0"
        if under:
            records = list(records)
            starts = [sort_key(record.first_path) for record in records]
            records = records[max(bisect_right(starts, wanted) - 1, 0) :]
        order: Order | None = Order(self._what)
        skipped = bool(under)
        for record in records:
            if (
                under
                and sort_key(record.first_path) > wanted
                and not sort_key(record.first_path).startswith(inside)
            ):
                return
            try:
                entries = decode_segment(self._chunks.read_one(record.chunk, self._uses), self._what)
                if order is None or skipped:
                    order, skipped = Order(self._what, record.first_path), False
                for entry in entries:
                    path = order.path(entry)
                    if not under or path == under or sort_key(path).startswith(inside):
                        yield path, entry
            except IntegrityFailure as error:
                _report(error, damage)
                order = None

    def read_segment(self, record: SegmentRecord) -> list[tuple[bytes, Entry]]:
        """(path, entry) of all entries of one segment. Raises ``IntegrityFailure``."""
        entries = decode_segment(self._chunks.read_one(record.chunk, self._uses), self._what)
        order = Order(self._what, record.first_path)
        return [(order.path(entry), entry) for entry in entries]

    def find(self, path: bytes) -> Entry | None:
        """The entry of one path, or None."""
        for found, entry in self.entries(path):
            return entry if found == path else None
        return None

    def chunk_ids(self, entry: Entry) -> Iterator[bytes]:
        """The ids of the chunks of a file's data, in order. Raises ``IntegrityFailure``."""
        for chunk in split_ids(entry.chunks):
            if not entry.indirect:
                yield chunk
                continue
            ids = bytes(self._chunks.read_one(chunk, self._uses))
            if len(ids) % CHUNK_ID_BYTES or len(ids) > MAX_CHUNK_BYTES:
                msg = f"{self._what}: the list of chunks of {entry.name!r} is damaged"
                raise IntegrityFailure(msg)
            yield from split_ids(ids)

    def content(self, entry: Entry) -> Iterator[bytes | memoryview]:
        """The data of a file, holes left out, chunk by chunk."""
        batch: list[bytes] = []
        for chunk in self.chunk_ids(entry):
            batch.append(chunk)
            if len(batch) == 4:
                yield from self._chunks.read(batch, self._uses)
                batch = []
        yield from self._chunks.read(batch, self._uses)

    def problems(self) -> Iterator[Problem]:
        """What could not be read when the point was made."""
        for chunk in split_ids(self.point.body.problems):
            yield from decode_problems(self._chunks.read_one(chunk, self._uses), self._what)


def sort_key(path: bytes) -> bytes:
    """Sorts paths as the stream does: names of a directory together, before what follows it."""
    return path.replace(b"/", b"\0")


def split_ids(ids: bytes) -> list[bytes]:
    """Concatenated ids, apart."""
    return [ids[i : i + CHUNK_ID_BYTES] for i in range(0, len(ids), CHUNK_ID_BYTES)]


def _report(error: IntegrityFailure, damage: Damage | None) -> None:
    if damage is None:
        raise error
    damage(error)
