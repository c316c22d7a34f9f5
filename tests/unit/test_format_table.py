"""Index tables: chunks that are stored twice, and rows that somebody hostile wrote."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from donjon.format.pack import Frame
from donjon.format.table import PackRow, Table, build_table, merge_tables
from donjon.repository.cache import Cache
from donjon.repository.index import Index

CHUNK = b"c" * 32
OTHER = b"d" * 32
WRITER, THIEF = b"w" * 16, b"t" * 16


def pack_row(name: bytes, ordinal: int, lock_until: int) -> PackRow:
    return PackRow(name * 32, 1, ordinal, 1, 1000, lock_until)


def table_of(row: PackRow) -> bytes:
    return build_table([(row, [Frame(row.ordinal, 116, 100, 0, [(CHUNK, 60), (OTHER, 40)])])])


EARLY, LATE = pack_row(b"e", 1, 100), pack_row(b"l", 2, 200)


@pytest.mark.parametrize("order", [(EARLY, LATE), (LATE, EARLY)], ids=["early-first", "late-first"])
def test_a_merged_table_has_every_place_of_a_chunk(order: tuple[PackRow, PackRow]) -> None:
    table = Table(b"".join(merge_tables([Table(table_of(row), "one") for row in order])), "merged")
    assert [place.pack for place in table.find_all(CHUNK)] == list(order)
    assert list(table.find_packs(OTHER)) == list(order)


@pytest.mark.parametrize("merged", [False, True], ids=["apart", "merged"])
def test_of_several_packs_the_one_locked_longest_counts(merged: bool, tmp_path: Path) -> None:
    """Otherwise what was stored again before its lock ended would be stored again for ever."""
    index = index_of(tmp_path, merged=merged)
    assert index.find(CHUNK, WRITER) == LATE


@pytest.mark.parametrize("merged", [False, True], ids=["apart", "merged"])
@pytest.mark.parametrize(("bad", "good"), [(EARLY, LATE), (LATE, EARLY)], ids=["early-bad", "late-bad"])
def test_a_bad_pack_hides_no_good_one(merged: bool, bad: PackRow, good: PackRow, tmp_path: Path) -> None:
    index = index_of(tmp_path, merged=merged)
    index.mark_bad([bad.name])
    assert index.find(CHUNK, WRITER) == good
    assert {found.at.pack for found in index.find_all(CHUNK)} == {EARLY, LATE}


def index_of(folder: Path, *, merged: bool) -> Index:
    index = Index(Cache(folder))
    if merged:
        tables = [Table(table_of(row), "one") for row in (EARLY, LATE)]
        index.add(WRITER, 1, 0, b"".join(merge_tables(tables)))
    else:
        index.add(WRITER, 1, 0, table_of(EARLY))
        index.add(WRITER, 1, 1, table_of(LATE))
    return index


#: Offsets in a table of one pack, one frame and two chunks: where a row says what it points to.
POINTERS = {
    "frame of a chunk": 16 + 64 + 28 + 32,
    "offset of a chunk": 16 + 64 + 28 + 36,
    "length of a chunk": 16 + 64 + 28 + 40,
    "pack of a frame": 16 + 64,
    "offset of a frame": 16 + 64 + 4,
    "sealed bytes of a frame": 16 + 64 + 8,
    "raw bytes of a frame": 16 + 64 + 12,
}


@pytest.mark.parametrize("place", POINTERS.values(), ids=POINTERS.keys())
@pytest.mark.parametrize("value", [1 << 24, (1 << 32) - 1], ids=["large", "largest"])
def test_a_row_that_points_nowhere_hides_no_other_table(place: int, value: int, tmp_path: Path) -> None:
    """A stolen writer key must not keep the points of another writer from being read."""
    data = bytearray(table_of(EARLY))
    struct.pack_into("<I", data, place, value)
    index = Index(Cache(tmp_path))
    for part in range(9):  # so many that they are merged
        index.add(THIEF, 1, part, bytes(data))
    index.add(WRITER, 1, 0, table_of(LATE))
    assert [(found.writer, found.at.pack) for found in index.find_all(CHUNK)] == [(WRITER, LATE)]
    near = index.find_near(CHUNK)
    assert near is not None
    assert near.writer == WRITER


def test_a_writer_relies_on_packs_of_its_own_key_only(tmp_path: Path) -> None:
    index = Index(Cache(tmp_path))
    index.add(THIEF, 1, 0, table_of(LATE))
    assert index.find(CHUNK, WRITER) is None
    index.add(WRITER, 1, 0, table_of(EARLY))
    assert index.find(CHUNK, WRITER) == EARLY
