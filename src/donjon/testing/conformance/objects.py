"""What every adapter to a bucket must do. An adapter passes if a subclass of ``ObjectsTests`` does.

class TestMyObjects(ObjectsTests):
    @pytest.fixture
    def objects(self) -> Objects:
        return MyObjects(...)  # empty, with the prefix ``in here/``
"""

from __future__ import annotations

import gzip
from itertools import pairwise

import msgspec
import pytest

from donjon.clouds.objects.base import Listed, Metadata, ObjectChanged, Objects
from donjon.core.errors import ObjectNotFound

#: Keys below the prefix that are easily taken for something else.
KEYS = (
    "a", "a/b", "a!b", "a.b", "a//b", "a/../b", "./x", "../x", "..", "folder/", "%2F", "%=x", "%25",
    "a b+c&d",
    "question?x=y#z", "tab\there", "quote'\"<>", "ü/日本/𝄞", "~tilde", "back\\slash", "star*",
    "k" * 900,
)  # fmt: skip

FULL = Metadata(
    content_type="text/x-donjon; charset=utf-8",
    content_encoding="gzip",
    content_language="de",
    content_disposition='attachment; filename="x"',
    cache_control="max-age=5",
    user={"owner": "ops", "batch_no": "7 of 9"},
)


class ObjectsTests:
    """The contract of ``Objects``, checked from outside."""

    #: Keys that the server at hand cannot hold, through no fault of the adapter.
    impossible: frozenset[str] = frozenset()
    #: Whether objects can have tags here.
    tags = True
    #: Whether the server at hand looks once more, at the end of an upload, whether the name is still free.
    checks_parts = True

    def test_hostile_keys_come_back(self, objects: Objects) -> None:
        keys = [f"in here/{key}" for key in KEYS if key not in self.impossible]
        for number, key in enumerate(keys):
            assert objects.put(key, b"%d" % number, Metadata(), replace=False)
        listed = {row.key: row for row in self.list(objects)}
        assert sorted(listed) == sorted(keys)
        for number, key in enumerate(keys):
            assert objects.read(listed[key]).data == b"%d" % number
            assert listed[key].size_bytes == len(b"%d" % number)

    def test_only_what_is_below_the_prefix_is_listed(self, objects: Objects) -> None:
        for key in ("in here", "in here2/a", "other", "in here/mine"):
            objects.put(key, b"x", Metadata(), replace=False)
        assert [row.key for row in self.list(objects)] == ["in here/mine"]

    def test_nothing_is_listed_where_nothing_is(self, objects: Objects) -> None:
        assert self.list(objects) == []

    def test_metadata_comes_back(self, objects: Objects) -> None:
        packed = gzip.compress(b"packed" * 100)
        assert objects.fitting(FULL) == (FULL, [])
        objects.put("in here/a", packed, FULL, replace=False)
        got = objects.read(self.one(objects))
        assert got.data == packed  # as it is stored, though a browser would unpack it
        assert msgspec.structs.replace(got.metadata, storage_class="") == FULL
        found = objects.look("in here/a")
        assert found is not None
        assert msgspec.structs.replace(found[1], storage_class="") == FULL

    def test_tags_come_back_or_are_said_to_be_lost(self, objects: Objects) -> None:
        wanted, lost = objects.fitting(Metadata(tags={"team": "a b", "level": "1"}))
        assert bool(lost) != self.tags
        objects.put("in here/a", b"x", wanted, replace=False)
        assert objects.read(self.one(objects)).metadata.tags == wanted.tags

    def test_the_list_and_the_answer_agree(self, objects: Objects) -> None:
        objects.put("in here/a", b"123", Metadata(), replace=False)
        listed, got = self.one(objects), objects.read(self.one(objects)).listed
        assert (listed.key, listed.size_bytes, listed.etag) == (got.key, got.size_bytes, got.etag)
        assert listed.modified_ns // 10**9 == got.modified_ns // 10**9

    def test_what_is_there_stays_unless_it_may_be_replaced(self, objects: Objects) -> None:
        assert objects.put("in here/a", b"first", Metadata(), replace=False)
        assert not objects.put("in here/a", b"second", Metadata(), replace=False)
        before = self.one(objects)
        assert objects.read(before).data == b"first"
        assert objects.put("in here/a", b"third", Metadata(), replace=True)
        assert objects.read(before).data == b"third"
        assert self.one(objects).etag != before.etag

    def test_empty_objects(self, objects: Objects) -> None:
        objects.put("in here/a", b"", Metadata(), replace=False)
        assert objects.read(self.one(objects)).data == b""

    def test_ranges_are_of_one_object(self, objects: Objects) -> None:
        data = bytes(range(250)) * 1200
        objects.put("in here/a", data, FULL, replace=False)
        listed = self.one(objects)
        got = objects.read(listed, offset=1000, length=5000)
        assert got.data == data[1000:6000]
        assert (got.listed.size_bytes, got.metadata.content_type) == (len(data), FULL.content_type)
        assert objects.read(listed, offset=299_000, length=5000).data == data[299_000:]
        objects.put("in here/a", data[::-1], FULL, replace=True)
        with pytest.raises(ObjectChanged):
            objects.read(listed, offset=1000, length=5000)

    def test_what_has_grown_too_large_is_not_taken_into_memory(self, objects: Objects) -> None:
        objects.put("in here/a", b"x" * 5000, Metadata(), replace=False)
        with pytest.raises(ObjectChanged):
            objects.read(self.one(objects), most_bytes=4999)
        assert len(objects.read(self.one(objects), most_bytes=5000).data) == 5000

    def test_what_is_hidden_is_not_current_any_more(self, objects: Objects) -> None:
        objects.put("in here/a", b"1", Metadata(), replace=False)
        objects.hide("in here/a")
        assert objects.look("in here/a") is None
        assert [row for page in objects.pages() for row in page] == []
        assert not objects.keeps_versions()
        assert [row for page in objects.pages(versions=True) for row in page] == []

    def test_what_is_missing(self, objects: Objects) -> None:
        assert objects.look("in here/none") is None
        with pytest.raises(ObjectNotFound):
            objects.read(Listed("in here/none", 1, 0, "x"))

    def test_large_objects_go_up_in_parts(self, objects: Objects) -> None:
        data = b"".join(number.to_bytes(4, "big") for number in range(17 << 18))
        upload = objects.start("in here/a", len(data), FULL, replace=False)
        count = -(-len(data) // upload.part_bytes)
        assert count > 1
        numbers = range(count) if upload.ordered else reversed(range(count))
        for number in numbers:
            assert self.list(objects) == []
            upload.part(number, data[number * upload.part_bytes :][: upload.part_bytes])
        assert upload.complete(count)
        listed = self.one(objects)
        assert listed.size_bytes == len(data)
        pieces = [objects.read(listed, offset=at, length=8 << 20).data for at in range(0, len(data), 8 << 20)]
        assert b"".join(pieces) == data
        found = objects.look("in here/a")
        assert found is not None
        assert found[1].content_type == FULL.content_type

    def test_parts_do_not_replace_what_came_meanwhile(self, objects: Objects) -> None:
        upload = objects.start("in here/a", 10, Metadata(), replace=False)
        objects.put("in here/a", b"meanwhile", Metadata(), replace=False)
        upload.part(0, b"0123456789")
        if not self.checks_parts:
            upload.abort()
            return
        assert not upload.complete(1)
        assert objects.read(self.one(objects)).data == b"meanwhile"

    def test_parts_that_are_given_up_leave_nothing(self, objects: Objects) -> None:
        upload = objects.start("in here/a", 9 << 20, Metadata(), replace=False)
        upload.part(0, b"x" * upload.part_bytes)
        upload.abort()
        assert self.list(objects) == []

    def test_lists_of_many_pages_have_everything_once(self, objects: Objects) -> None:
        for number in range(30):
            objects.put(f"in here/{number:03}", b"x", Metadata(), replace=False)
        rows = [row.key for row in self.list(objects)]
        assert len(rows) == 30
        assert all(before < after for before, after in pairwise(rows))

    def list(self, objects: Objects) -> list[Listed]:
        """Everything that is listed."""
        return [row for page in objects.pages() for row in page]

    def one(self, objects: Objects) -> Listed:
        """The one object that there is."""
        (listed,) = self.list(objects)
        return listed
