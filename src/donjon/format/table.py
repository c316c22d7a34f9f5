"""Index tables: where chunks are. Fixed-width rows sorted by chunk id, searched in place.

The same bytes are sealed into index objects and kept in the local cache, where they are mapped into
memory. See ``docs/format.md``, "Index".
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from donjon.codec.digest import derive
from donjon.codec.seal import BOX_BYTES, TAG_BYTES, Sealer
from donjon.core.errors import IntegrityFailure
from donjon.format.entries import CHUNK_ID_BYTES
from donjon.format.limits import MAX_PART, check_id, check_number, require
from donjon.format.objects import pad, unpad
from donjon.format.pack import MAX_FRAME_RAW_BYTES, MAX_PACK_BYTES, Frame

_HEADER = struct.Struct("<4sIII")
_PACK = struct.Struct("<32sQIB3xQQ")
_FRAME = struct.Struct("<IIIIQB3x")
_CHUNK = struct.Struct("<32sIII")
_PREFIX = struct.Struct(">Q")
_WHERE = struct.Struct("<III")
_MAGIC = b"DNJT"
_INTERPOLATIONS = 3
_WINDOW_ROWS = 12

PACK_ROW_BYTES = _PACK.size
#: More rows than a table can have.
_NO_ROW = (1 << 32) - 1


class PackRow(NamedTuple):
    """A pack as the index knows it: ``lock_until`` in Unix seconds by the store's clock, 0 for none."""

    name: bytes
    session: int
    ordinal: int
    kind: int
    size_bytes: int
    lock_until: int


class Location(NamedTuple):
    """Where a chunk is: a piece of the plaintext of a frame of a pack."""

    pack: PackRow
    frame_offset: int
    frame_sealed_bytes: int
    frame_raw_bytes: int
    frame_number: int
    compression: int
    offset: int
    length: int


class IndexObject(msgspec.Struct, array_like=True, frozen=True):
    """The payload of an index object. ``packs`` are pack rows, open to whoever keeps the vault."""

    writer: bytes
    session: int
    part: int
    packs: bytes
    sealed: bytes

    def __post_init__(self) -> None:
        check_id(self.writer)
        check_number(self.session)
        require(0 <= self.part <= MAX_PART, "part")
        require(len(self.packs) % _PACK.size == 0, "pack rows")


class Table:
    """A table in memory or mapped from a file. All packs in it are of one writer."""

    def __init__(self, data: bytes | mmap.mmap, what: str, size_bytes: int | None = None) -> None:
        """The table in the first ``size_bytes`` of ``data``, by default all.

        Raises ``IntegrityFailure`` if the counts do not match the size.
        """
        self.what = what
        self._data = data
        size = len(data) if size_bytes is None else size_bytes
        if size < _HEADER.size:
            raise _damaged(what)
        counts: tuple[int, int, int] = _HEADER.unpack_from(data)[1:]
        self.pack_count, self.frame_count, self.chunk_count = counts
        self._frames_at = _HEADER.size + self.pack_count * _PACK.size
        self._chunks_at = self._frames_at + self.frame_count * _FRAME.size
        self.size_bytes = self._chunks_at + self.chunk_count * _CHUNK.size
        if data[: len(_MAGIC)] != _MAGIC or self.size_bytes != size:
            raise _damaged(what)

    def release_pages(self) -> None:
        """Give back the memory of what was read of a mapped table; the next read maps it anew."""
        if isinstance(self._data, mmap.mmap):
            self._data.madvise(mmap.MADV_DONTNEED)

    def packs(self) -> Iterator[PackRow]:
        """All packs, in the order of their numbers in this table."""
        return (PackRow(*row) for row in _PACK.iter_unpack(self.pack_part))

    def _pack(self, number: int) -> PackRow:
        return PackRow(*_PACK.unpack_from(self._data, _HEADER.size + number * _PACK.size))

    def find(self, chunk: bytes) -> Location | None:
        """Where a chunk is, or None. Of several places any."""
        at = self._find_row(chunk)
        if at < 0:
            return None
        return self._location(at) or next(self.find_all(chunk), None)

    def rows_of(self, chunk: bytes) -> Iterator[int]:
        """The numbers of the rows of a chunk, counted from 0 in the order of ``__iter__``."""
        return ((at - self._chunks_at) // _CHUNK.size for at in self._rows(chunk))

    def find_all(self, chunk: bytes) -> Iterator[Location]:
        """Every place of a chunk. Rows that point outside of what can be are no places.

        So a table that somebody hostile signed cannot keep a chunk from being found in another one.
        """
        for at in self._rows(chunk):
            if (location := self._location(at)) is not None:
                yield location

    def find_packs(self, chunk: bytes) -> Iterator[PackRow]:
        """Every pack that a chunk is in. Cheaper than ``find_all``."""
        for at in self._rows(chunk):
            frame = _WHERE.unpack_from(self._data, at + 32)[0]
            if frame < self.frame_count:
                pack: int = _FRAME.unpack_from(self._data, self._frames_at + frame * _FRAME.size)[0]
                if pack < self.pack_count:
                    yield self._pack(pack)

    def _rows(self, chunk: bytes) -> Iterator[int]:
        """Where the rows of a chunk start: several, if it was stored again and tables were merged."""
        at, size, data = self._find_row(chunk), _CHUNK.size, self._data
        if at < 0:
            return
        while at > self._chunks_at and data[at - size : at - size + CHUNK_ID_BYTES] == chunk:
            at -= size
        end = self._chunks_at + self.chunk_count * size
        while at < end and data[at : at + CHUNK_ID_BYTES] == chunk:
            yield at
            at += size

    def _find_row(self, chunk: bytes) -> int:
        """Where the row of a chunk starts, or -1.

        Ids are uniform: three interpolations come within a few rows, and what is left is searched in C.
        """
        count, data, base, size, prefix = self.chunk_count, self._data, self._chunks_at, _CHUNK.size, _PREFIX
        wanted: int = prefix.unpack_from(chunk)[0]
        if not count:
            return -1
        at: int = wanted * count >> 64
        last = count - 1
        for _ in range(_INTERPOLATIONS):
            at += (wanted - prefix.unpack_from(data, base + at * size)[0]) * count >> 64
            at = 0 if at < 0 else last if at > last else at
        low, high = max(at - _WINDOW_ROWS, 0), min(at + _WINDOW_ROWS, last)
        found: int = data.find(chunk, base + low * size, base + (high + 1) * size)
        if found >= 0 and (found - base) % size == 0:
            return found
        if (low == 0 or self._key(low) < wanted) and (high == last or self._key(high) > wanted):
            return -1
        return self._search(chunk)

    def _search(self, chunk: bytes) -> int:
        """Plain binary search, for tables that are small or made by somebody hostile."""
        low, high, base, size = 0, self.chunk_count, self._chunks_at, _CHUNK.size
        while low < high:
            middle = (low + high) // 2
            at = base + middle * size
            found: bytes = self._data[at : at + CHUNK_ID_BYTES]
            if found == chunk:
                return at
            if found < chunk:
                low = middle + 1
            else:
                high = middle
        return -1

    def _key(self, row: int) -> int:
        key: int = _PREFIX.unpack_from(self._data, self._chunks_at + row * _CHUNK.size)[0]
        return key

    def _location(self, at: int) -> Location | None:
        """What the row at this place says, None if that cannot be."""
        frame, offset, length = _WHERE.unpack_from(self._data, at + 32)
        if frame >= self.frame_count:
            return None
        number_of_pack, start, sealed, raw, number, coding = _FRAME.unpack_from(
            self._data, self._frames_at + frame * _FRAME.size
        )
        if number_of_pack >= self.pack_count:
            return None
        pack = self._pack(number_of_pack)
        if (
            not TAG_BYTES <= sealed <= MAX_FRAME_RAW_BYTES + TAG_BYTES
            or raw > MAX_FRAME_RAW_BYTES
            or offset + length > raw
            or start + sealed > min(pack.size_bytes, MAX_PACK_BYTES)
        ):
            return None
        return Location(pack, start, sealed, raw, number, coding, offset, length)

    def __iter__(self) -> Iterator[tuple[bytes, int, int, int]]:
        """All rows in order: chunk id, frame, offset, length."""
        return _CHUNK.iter_unpack(memoryview(self._data)[self._chunks_at : self.size_bytes])

    def frames(self) -> Iterator[tuple[int, int, int, int, int, int]]:
        """All frames: pack, offset, sealed bytes, raw bytes, number, compression."""
        return _FRAME.iter_unpack(memoryview(self._data)[self._frames_at : self._chunks_at])

    @property
    def sealed_part(self) -> bytes:
        """Header, frames and chunks: all but the pack rows."""
        return bytes(self._data[: _HEADER.size]) + bytes(self._data[self._frames_at : self.size_bytes])

    @property
    def pack_part(self) -> memoryview:
        """The pack rows."""
        return memoryview(self._data)[_HEADER.size : self._frames_at]


def build_table(packs: Iterable[tuple[PackRow, list[Frame]]]) -> bytes:
    """The table of these packs. A chunk that is there twice keeps its first place."""
    pack_rows: list[bytes] = []
    frame_rows: list[bytes] = []
    chunks: dict[bytes, bytes] = {}
    for row, frames in packs:
        at = 0
        for frame in frames:
            frame_rows.append(
                _FRAME.pack(
                    len(pack_rows), at, frame.sealed_bytes, frame.raw_bytes, frame.number, frame.compression
                )
            )
            at += frame.sealed_bytes
            offset = 0
            for chunk, length in frame.chunks:
                if chunk not in chunks:
                    chunks[chunk] = _CHUNK.pack(chunk, len(frame_rows) - 1, offset, length)
                offset += length
        pack_rows.append(_PACK.pack(*row))
    header = _HEADER.pack(_MAGIC, len(pack_rows), len(frame_rows), len(chunks))
    return b"".join([header, *pack_rows, *frame_rows, *sorted(chunks.values())])


def merge_tables(tables: list[Table]) -> Iterator[bytes]:
    """The bytes of one table with all that is in ``tables`` (of one writer), in pieces.

    Memory does not grow with the number of chunks. Of a chunk that is there twice both rows stay.
    """
    import heapq

    packs = frames = chunks = 0
    shifts: list[tuple[int, int]] = []
    for table in tables:
        shifts.append((packs, frames))
        packs += table.pack_count
        frames += table.frame_count
        chunks += table.chunk_count
    yield _HEADER.pack(_MAGIC, packs, frames, chunks)
    for table in tables:
        yield bytes(table.pack_part)
    for table, (pack_shift, _) in zip(tables, shifts, strict=True):
        for pack, *rest in table.frames():
            yield _FRAME.pack(_shift(pack, pack_shift, table.pack_count), *rest)
    streams = [_shifted(table, shift) for table, (_, shift) in zip(tables, shifts, strict=True)]
    yield from heapq.merge(*streams)


def _shifted(table: Table, shift: int) -> Iterator[bytes]:
    for chunk, frame, offset, length in table:
        yield _CHUNK.pack(chunk, _shift(frame, shift, table.frame_count), offset, length)


def _shift(number: int, shift: int, count: int) -> int:
    """The number of a row in the merged table; one that was out of bounds stays so."""
    return number + shift if number < count else _NO_ROW


def pack_rows(rows: bytes, what: str) -> list[PackRow]:
    """The open pack rows of an index object. Raises ``IntegrityFailure`` for half a row."""
    if len(rows) % _PACK.size:
        raise _damaged(what)
    return [PackRow(*row) for row in _PACK.iter_unpack(rows)]


def index_object_key(index_key: bytes, writer: bytes, session: int, part: int) -> bytes:
    """The key of the box of one index object."""
    place = writer + session.to_bytes(8, "little") + part.to_bytes(4, "little")
    return derive("donjon v1 index object", index_key + place)


def seal_table(table: Table, index_key: bytes, writer: bytes, session: int, part: int) -> IndexObject:
    """The payload of an index object that holds this table."""
    key = index_object_key(index_key, writer, session, part)
    plain = pad(table.sealed_part, BOX_BYTES)
    return IndexObject(writer, session, part, bytes(table.pack_part), Sealer(key).box(plain))


def open_table(index: IndexObject, index_key: bytes, what: str) -> bytes:
    """The bytes of the table in an index object. Raises ``IntegrityFailure``."""
    key = index_object_key(index_key, index.writer, index.session, index.part)
    plain = unpad(Sealer(key).open_box(index.sealed, what), what)
    data = b"".join([plain[: _HEADER.size], index.packs, plain[_HEADER.size :]])
    Table(data, what)
    return data


def _damaged(what: str) -> IntegrityFailure:
    return IntegrityFailure(
        f"{what}: is no valid index table",
        hint="The index is rebuilt from the packs when it is missing; run `donjon verify` for the rest.",
    )
