"""What every source must do. An adapter passes if a subclass of ``SourceTests`` does.

class TestMySource(SourceTests):
    def make(self) -> Source:
        return MySource(...)
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from donjon.format.entries import MAX_NAME_BYTES, Kind
from donjon.sources.base import Content, Item, Source


def read_all(content: Content, buffer_bytes: int = 1 << 16) -> bytes:
    """All data of an open file, holes left out. The caller closes it."""
    buffer = memoryview(bytearray(buffer_bytes))
    parts = []
    while count := content.readinto(buffer):
        parts.append(bytes(buffer[:count]))
    return b"".join(parts)


class SourceTests:
    """The contract of ``Source``, checked from outside."""

    #: Whether the source can tell that something has not changed.
    comparable = True

    def make(self) -> Source:
        """A source of the same things at each call, with at least one file that has content."""
        raise NotImplementedError

    @pytest.fixture
    def items(self) -> list[Item]:
        return list(self.make().items())

    def test_items_are_a_tree_in_preorder(self, items: list[Item]) -> None:
        assert items[0].depth == 0
        above: list[bytes] = []
        for item in items:
            assert item.depth <= len(above)
            del above[item.depth :]
            above.append(item.name)
            assert item.path.endswith(b"/".join(above))
        for before, after in pairwise(items):
            if after.depth > before.depth:
                assert before.describe().kind == Kind.DIRECTORY

    def test_names_ascend_and_are_names(self, items: list[Item]) -> None:
        last: dict[int, bytes] = {}
        for item in items:
            assert 0 < len(item.name) <= MAX_NAME_BYTES
            assert item.name not in (b".", b"..")
            assert not {0, ord("/")} & set(item.name)
            assert last.get(item.depth, b"") < item.name
            last[item.depth] = item.name
            for depth in [depth for depth in last if depth > item.depth]:
                del last[depth]

    def test_descriptions_match_their_items(self, items: list[Item]) -> None:
        for item in items:
            entry = item.describe()
            assert (entry.depth, entry.name) == (item.depth, item.name)
            assert (entry.kind == Kind.FILE) == item.is_file
            assert 0 <= entry.mode <= 0o7777
            assert 0 <= entry.mtime_ns < 10**9
            assert 0 <= entry.ctime_ns < 10**9
            assert entry.xattrs == tuple(sorted(entry.xattrs))
            if item.link_group is not None:
                assert item.link_group == (entry.device, entry.inode)
                assert entry.links > 1
            if not item.is_file:
                assert item.size == entry.size == 0

    def test_nothing_changes_unasked(self, items: list[Item]) -> None:
        again = list(self.make().items())
        assert [item.path for item in again] == [item.path for item in items]
        # Files alone: others may work in the folders above.
        pairs = [pair for pair in zip(again, items, strict=True) if pair[1].is_file]
        same = {now.same_as(item.describe()) for now, item in pairs}
        assert same == {self.comparable}

    def test_content_is_what_its_extents_say(self, items: list[Item]) -> None:
        total = 0
        for item in items:
            if not item.is_file or item.size == 0:
                continue
            content = item.open()
            data = read_all(content)
            assert content.close()
            assert content.extents is None or sum(size for _, size in content.extents) == len(data)
            assert content.extents is not None or len(data) == item.size
            total += len(data)
        assert total > 0

    @pytest.mark.parametrize("buffer_bytes", [1, 7, 4096, 1 << 20])
    def test_any_buffer_reads_the_same(self, buffer_bytes: int) -> None:
        first, second = (_first_file(self.make()).open() for _ in range(2))
        expected = read_all(first)
        assert read_all(second, buffer_bytes) == expected
        assert second.readinto(memoryview(bytearray(1))) == 0
        assert first.close()
        assert second.close()

    def test_a_buffer_is_filled_as_far_as_there_is_data(self) -> None:
        item = _first_file(self.make())
        content = item.open()
        data = read_all(content)
        content.close()
        again = _first_file(self.make()).open()
        buffer = memoryview(bytearray(len(data) + 10))
        assert again.readinto(buffer[: len(data) - 1]) == len(data) - 1
        assert again.readinto(buffer[len(data) - 1 :]) == 1
        assert bytes(buffer[: len(data)]) == data
        again.close()

    def test_what_is_no_file_does_not_open(self, items: list[Item]) -> None:
        for item in items:
            if not item.is_file:
                with pytest.raises(OSError, match=r"file|read"):
                    item.open()

    def test_there_are_no_problems(self) -> None:
        source = self.make()
        for _ in source.items():
            pass
        assert source.problems() == []


def _first_file(source: Source) -> Item:
    for item in source.items():
        if item.is_file and 0 < item.size:
            return item
    pytest.fail("the source has no file with content")
