"""The index in the client's cache: merged, shared between processes, and never trusted when damaged."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from donjon.format.pack import Frame, PackKind
from donjon.format.table import PackRow, build_table
from donjon.repository.cache import Cache
from donjon.repository.index import Index

WRITER = bytes(16)
PARTS = 70


def _chunk(session: int, number: int) -> bytes:
    return random.Random(f"{session}/{number}").randbytes(32)


def _table(session: int, chunks: int = 50) -> bytes:
    frames = [
        Frame(frame, 1000, 2000, 1, [(_chunk(session, frame * 10 + i), 200) for i in range(10)])
        for frame in range(chunks // 10)
    ]
    row = PackRow(_chunk(session, -1), session, 0, PackKind.DATA, 9000, 0)
    return build_table([(row, frames)])


def _filled(folder: Path) -> Index:
    index = Index(Cache(folder))
    for session in range(1, PARTS + 1):
        index.add(WRITER, session, 0, _table(session))
    return index


def _assert_complete(index: Index) -> None:
    for session in range(1, PARTS + 1):
        for number in range(50):
            chunk = _chunk(session, number)
            row = index.find(chunk, WRITER)
            assert row is not None
            assert (row.session, row.name) == (session, _chunk(session, -1))
            found = index.find_near(chunk)
            assert found is not None
            assert found.key == (WRITER, session, 0)
            assert found.at.offset == number % 10 * 200
            assert found in list(index.find_all(chunk))
    assert index.find(_chunk(1, 50), WRITER) is None
    assert index.find_near(_chunk(1, 50)) is None
    assert index.find(_chunk(1, 0), bytes(15) + b"\1") is None


def test_many_small_tables_become_few(tmp_path: Path) -> None:
    index = _filled(tmp_path)
    assert len(list(index.tables())) < PARTS / 3
    _assert_complete(index)
    again = Index(Cache(tmp_path))
    again.load_cached(WRITER)
    assert len(list(again.tables())) == len(list(index.tables()))
    _assert_complete(again)


def test_two_processes_may_merge_the_same_tables(tmp_path: Path) -> None:
    first, second = Index(Cache(tmp_path)), Index(Cache(tmp_path))
    for session in range(1, PARTS + 1):
        first.add(WRITER, session, 0, _table(session))
        second.add(WRITER, session, 0, _table(session))
    _assert_complete(first)
    _assert_complete(second)
    third = Index(Cache(tmp_path))
    third.load_cached(WRITER)
    _assert_complete(third)


@pytest.mark.parametrize("at", [0, 5, 17, 60, 200, -60, -1])
def test_a_table_whose_bits_changed_is_dropped(tmp_path: Path, at: int) -> None:
    index = Index(Cache(tmp_path))
    index.add(WRITER, 1, 0, _table(1))
    index.add(WRITER, 2, 0, _table(2))
    damaged, sound = sorted(tmp_path.rglob("*.table"))
    data = bytearray(damaged.read_bytes())
    data[at] ^= 1
    damaged.write_bytes(data)
    again = Index(Cache(tmp_path))
    again.load_cached(WRITER)
    assert not damaged.exists()
    assert sound.exists()
    assert again.find(_chunk(1, 0), WRITER) is None
    assert again.find(_chunk(2, 0), WRITER) is not None


@pytest.mark.parametrize("size", [0, 1, 31, 32, 40])
def test_a_table_that_was_cut_short_is_dropped(tmp_path: Path, size: int) -> None:
    Index(Cache(tmp_path)).add(WRITER, 1, 0, _table(1))
    (path,) = tmp_path.rglob("*.table")
    path.write_bytes(path.read_bytes()[:size])
    again = Index(Cache(tmp_path))
    again.load_cached(WRITER)
    assert list(again.tables()) == []
    assert not path.exists()
