"""What every object store must do. An adapter passes if a subclass of ``StoreTests`` does.

class TestMyStore(StoreTests):
    @pytest.fixture
    def store(self) -> Iterator[ObjectStore]:
        with MyStore(...) as store:
            yield store
"""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from donjon.core.errors import (
    IntegrityFailure,
    LocksUnsupported,
    ObjectExists,
    ObjectLocked,
    ObjectNotFound,
    TargetFailed,
)
from donjon.core.units import KIB, MIB
from donjon.stores.base import LockEnforcement, ObjectInfo, ObjectStore

DATA = bytes(range(256)) * 4
BAD_NAMES = (
    "",
    "/a",
    "a/",
    "a//b",
    "..",
    "../a",
    "a/../b",
    "a/.b",
    "A",
    "a b",
    "a\n",
    "a\0",
    "ä",
    "a_b",
    "a" * 513,
)


def streamed(store: ObjectStore, name: str, size_bytes: int) -> bytes:
    """What a store streams of an object; each piece has to begin where the one before ended."""
    data = bytearray()

    def write(offset: int, piece: memoryview) -> None:
        assert offset == len(data)
        data.extend(piece)

    store.stream(name, size_bytes, write)
    return bytes(data)


class StoreTests:
    """The contract of ``ObjectStore``, checked from outside.

    A store that cannot hold locks must refuse them, and that is tested instead; nothing is skipped.
    """

    #: How long the locks of these tests last. A store on a real clock takes a few seconds.
    lock_s = 3600
    #: How long before its end a lock is tried once more. A store on a real clock takes a few seconds.
    margin_s = 1

    @pytest.fixture
    def store(self) -> ObjectStore:
        """An empty store, which the fixture also cleans up."""
        raise NotImplementedError

    def reopen(self, store: ObjectStore) -> ObjectStore:
        """Another handle to the same objects, as a new process would have it, if there can be one."""
        return store

    def pass_time(self, store: ObjectStore, seconds: int) -> None:
        """Let the store's clock advance; the default waits."""
        time.sleep(seconds)

    def pass_until(self, store: ObjectStore, moment: int) -> None:
        """Let the store's clock come to ``moment``, in Unix seconds."""
        while (rest := moment - store.now()) > 0:
            self.pass_time(store, rest)

    def assert_lists(self, store: ObjectStore, *wanted: ObjectInfo) -> None:
        """The listing has what puts or heads told, as far as listings of this store tell it."""
        found = list(store.list())
        assert len(found) == len(wanted)
        for info, told in zip(found, wanted, strict=True):
            lock = told.retain_until if store.lists_locks else None
            self.assert_same(info, replace(told, retain_until=lock))

    def assert_same(self, info: ObjectInfo, other: ObjectInfo) -> None:
        """Alike but for the seconds that the answer to a put may be off."""
        assert replace(info, stored_at=0) == replace(other, stored_at=0)
        assert abs(info.stored_at - other.stored_at) <= 5

    # Creating

    def test_put_then_get_gives_the_bytes_back(self, store: ObjectStore) -> None:
        info = store.put("packs/ab/one", DATA)
        assert (info.name, info.size_bytes) == ("packs/ab/one", len(DATA))
        assert store.get("packs/ab/one") == DATA

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_any_buffer_can_be_put(self, store: ObjectStore, kind: type) -> None:
        store.put("one", kind(DATA))
        assert store.get("one") == DATA

    def test_part_of_a_larger_buffer_can_be_put(self, store: ObjectStore) -> None:
        store.put("one", memoryview(bytearray(DATA))[3:500])
        assert store.get("one") == DATA[3:500]

    def test_the_store_keeps_no_reference_to_the_buffer(self, store: ObjectStore) -> None:
        buffer = bytearray(DATA)
        store.put("one", buffer)
        buffer[:] = bytes(len(buffer))
        assert store.get("one") == DATA

    def test_put_refuses_a_taken_name_and_changes_nothing(self, store: ObjectStore) -> None:
        before = store.put("a/one", b"first")
        with pytest.raises(ObjectExists):
            store.put("a/one", b"second")
        with pytest.raises(ObjectExists):
            store.put("a/one", b"first")
        assert store.get("a/one") == b"first"
        self.assert_lists(store, before)

    def test_of_many_writers_of_one_name_exactly_one_wins(self, store: ObjectStore) -> None:
        count = 8
        barrier = Barrier(count)

        def write(name: str, content: bytes) -> bytes | None:
            barrier.wait()
            try:
                store.put(name, content)
            except ObjectExists:
                return None
            return content

        with ThreadPoolExecutor(count) as pool:
            for name in ("race/a", "race/b", "race/c"):
                contents = [bytes([65 + i]) * 64 * KIB for i in range(count)]
                results = list(pool.map(write, [name] * count, contents))
                winners = [content for content in results if content is not None]
                assert len(winners) == 1
                assert store.get(name) == winners[0]
        assert [info.name for info in store.list()] == ["race/a", "race/b", "race/c"]

    def test_many_threads_put_and_get_side_by_side(self, store: ObjectStore) -> None:
        def round_trip(number: int) -> bool:
            content = bytes([number]) * (number * 100)
            store.put(f"threads/{number:03d}", content)
            return store.get(f"threads/{number:03d}") == content

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(round_trip, range(40)))
        assert len(list(store.list("threads/"))) == 40

    def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        assert store.put("empty", b"").size_bytes == 0
        assert store.get("empty") == b""
        assert store.get("empty", offset=-5) == b""
        assert streamed(store, "empty", 0) == b""
        assert store.head("empty").size_bytes == 0
        with pytest.raises(ObjectExists):
            store.put("empty", b"")

    @pytest.mark.parametrize("size_bytes", [10 * MIB, 10 * MIB + 4097])
    def test_a_large_object(self, store: ObjectStore, size_bytes: int) -> None:
        content = random.Random(size_bytes).randbytes(size_bytes)  # noqa: S311 - repeatable
        store.put("large", content)
        assert store.get("large") == content
        assert streamed(store, "large", size_bytes) == content
        assert store.get("large", offset=5 * MIB - 1, length=MIB + 2) == content[5 * MIB - 1 : 6 * MIB + 1]

    @pytest.mark.parametrize(
        "name", ["a/b/c/d/e/f/g/h/i/j", "0", "-x", "a.b/c-d.e", "x" * 200, "/".join(["y" * 99] * 5)]
    )
    def test_names_of_any_allowed_form(self, store: ObjectStore, name: str) -> None:
        store.put(name, DATA)
        assert store.get(name) == DATA
        assert [info.name for info in store.list()] == [name]

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_other_names_are_refused(self, store: ObjectStore, name: str) -> None:
        for call in (
            lambda: store.put(name, DATA),
            lambda: store.get(name),
            lambda: streamed(store, name, 1),
            lambda: store.head(name),
            lambda: store.extend(name, store.now()),
            lambda: store.delete_expired(name),
        ):
            with pytest.raises(IntegrityFailure):
                call()
        assert list(store.list()) == []

    def test_what_was_put_is_there_after_reopening(self, store: ObjectStore) -> None:
        info = store.put("a/one", DATA)
        again = self.reopen(store)
        assert again.get("a/one") == DATA
        self.assert_lists(again, info)

    # Reading

    @pytest.mark.parametrize("length", [None, 0, 1, 10, 100, 5000])
    @pytest.mark.parametrize("offset", [0, 17, 1000, 1023, 1024, 5000, -1, -10, -1024, -5000])
    def test_ranges(self, store: ObjectStore, offset: int, length: int | None) -> None:
        store.put("one", DATA)
        rest = DATA[offset:]  # a slice reaches beyond both ends as a range does
        expected = rest if length is None else rest[:length]
        assert store.get("one", offset=offset, length=length) == expected

    @pytest.mark.parametrize("size_bytes", [1, 100, 1024])
    def test_a_stream_gives_as_much_as_was_asked_for(self, store: ObjectStore, size_bytes: int) -> None:
        store.put("one", DATA)
        assert streamed(store, "one", size_bytes) == DATA[:size_bytes]

    @pytest.mark.parametrize("size_bytes", [1025, 2 * MIB])
    def test_a_stream_refuses_an_object_that_ends_early(self, store: ObjectStore, size_bytes: int) -> None:
        store.put("one", DATA)
        with pytest.raises(IntegrityFailure, match="one"):
            streamed(store, "one", size_bytes)

    def test_a_stream_ends_when_its_reader_says_so(self, store: ObjectStore) -> None:
        store.put("large", bytes(3 * MIB))

        def refuse(_offset: int, _piece: memoryview) -> None:
            raise TargetFailed("no more")

        with pytest.raises(TargetFailed, match="no more"):
            store.stream("large", 3 * MIB, refuse)
        assert streamed(store, "large", 3 * MIB) == bytes(3 * MIB)

    def test_a_missing_object(self, store: ObjectStore) -> None:
        store.put("a/one", DATA)
        for name in ("two", "a/two", "b/one", "a"):
            for call in (
                lambda name=name: store.get(name),
                lambda name=name: streamed(store, name, 1),
                lambda name=name: store.head(name),
                lambda name=name: store.delete_expired(name),
            ):
                with pytest.raises(ObjectNotFound):
                    call()

    def test_head_agrees_with_put_and_list(self, store: ObjectStore) -> None:
        info = store.put("a/one", DATA)
        self.assert_same(store.head("a/one"), info)
        self.assert_lists(store, store.head("a/one"))
        assert info.is_latest
        assert not info.delete_marker
        assert info.retain_until is None or info.retain_until > store.now()  # the store may have a default
        assert abs(info.stored_at - store.now()) <= 60

    def test_versions_are_addressable(self, store: ObjectStore) -> None:
        version = store.put("a/one", DATA).version
        assert store.get("a/one", version=version) == DATA
        assert store.head("a/one", version=version).version == version
        for call in (
            lambda: store.get("a/one", version="no-such-version"),
            lambda: store.head("a/one", version="no-such-version"),
            lambda: store.delete_expired("a/one", version="no-such-version"),
        ):
            with pytest.raises(ObjectNotFound):
                call()

    # Listing

    def test_list_is_sorted_by_name_and_obeys_the_prefix(self, store: ObjectStore) -> None:
        names = [
            "a-b",
            "a.c",
            "a/b",
            "a/b-c/d",
            "a/c/x",
            "a0",
            "b",
            "packs/0f/x",
            "packs/f0/x",
            "packs/f0/y",
            "vault",
        ]
        for name in reversed(names):
            store.put(name, name.encode())
        for prefix in (
            "",
            "a",
            "a/",
            "a/b",
            "a/b-",
            "a/b-c/",
            "packs/",
            "packs/f",
            "packs/f0/x",
            "v",
            "z",
            "a/z/",
        ):
            assert [i.name for i in store.list(prefix)] == [n for n in sorted(names) if n.startswith(prefix)]
        assert [i.size_bytes for i in store.list("packs/")] == [10, 10, 10]

    def test_list_of_an_empty_store_is_empty(self, store: ObjectStore) -> None:
        assert list(store.list()) == []
        assert list(store.list("packs/")) == []

    @pytest.mark.parametrize("prefix", ["/", "../", "a/../", "a//", "A"])
    def test_list_refuses_a_prefix_that_no_name_has(self, store: ObjectStore, prefix: str) -> None:
        with pytest.raises(IntegrityFailure):
            list(store.list(prefix))

    # Deleting and locks

    def test_delete_of_an_object_without_lock(self, store: ObjectStore) -> None:
        info = store.put("a/one", DATA)
        if info.retain_until is None:
            store.delete_expired("a/one", version=info.version)
            with pytest.raises(ObjectNotFound):
                store.get("a/one")
            with pytest.raises(ObjectNotFound):
                store.delete_expired("a/one", version=info.version)
            assert list(store.list()) == []
            store.put("a/one", b"again")

    def test_a_store_without_locks_says_so(self, store: ObjectStore) -> None:
        if store.lock_enforcement is LockEnforcement.NONE:
            with pytest.raises(LocksUnsupported):
                store.put("one", DATA, retain_until=store.now() + self.lock_s)
            assert list(store.list()) == []
            store.put("one", DATA)
            with pytest.raises(LocksUnsupported):
                store.extend("one", store.now() + self.lock_s)

    def test_a_lock_refuses_deletion_until_it_ends(self, store: ObjectStore) -> None:
        if info := self._put_locked(store):
            self._refused(store, info)
            self.pass_until(store, self._end(info) - self.margin_s)
            self._refused(store, info)
            self.pass_until(store, self._end(info))
            store.delete_expired(info.name, version=info.version)
            assert list(store.list()) == []

    def test_a_lock_is_told_by_put_head_and_list(self, store: ObjectStore) -> None:
        if info := self._put_locked(store):
            assert store.head(info.name).retain_until == info.retain_until
            self.assert_lists(store, info)

    def test_a_lock_is_never_shortened(self, store: ObjectStore) -> None:
        if info := self._put_locked(store):
            for earlier in (self._end(info) - 1, store.now(), 0):
                with pytest.raises(ObjectLocked) as caught:
                    store.extend(info.name, earlier, version=info.version)
                assert caught.value.retain_until == info.retain_until
            assert store.head(info.name).retain_until == info.retain_until

    def test_extend_moves_the_end(self, store: ObjectStore) -> None:
        if info := self._put_locked(store):
            store.extend(info.name, self._end(info), version=info.version)
            assert store.head(info.name, version=info.version).retain_until == info.retain_until
            store.extend(info.name, self._end(info) + self.lock_s, version=info.version)
            later = store.head(info.name, version=info.version)
            assert later.retain_until == self._end(info) + self.lock_s
            assert store.get(info.name) == DATA
            self.pass_until(store, self._end(info))
            self._refused(store, later)
            self.pass_until(store, self._end(later))
            store.delete_expired(info.name, version=info.version)

    def test_extend_locks_an_object_that_had_no_lock(self, store: ObjectStore) -> None:
        if store.lock_enforcement is not LockEnforcement.NONE:
            version = store.put("a/one", DATA).version
            end = store.now() + self.lock_s
            store.extend("a/one", end, version=version)
            info = store.head("a/one")
            assert info.retain_until == end
            self._refused(store, info)

    def test_extend_of_a_missing_object(self, store: ObjectStore) -> None:
        if store.lock_enforcement is not LockEnforcement.NONE:
            with pytest.raises(ObjectNotFound):
                store.extend("a/one", store.now() + self.lock_s)

    def test_concurrent_extensions_keep_the_latest_end(self, store: ObjectStore) -> None:
        if info := self._put_locked(store):
            ends = [self._end(info) + i for i in range(1, 17)]

            def extend(end: int) -> None:
                try:
                    store.extend(info.name, end, version=info.version)
                except ObjectLocked:
                    assert store.head(info.name).retain_until is not None

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(extend, ends))
            assert store.head(info.name).retain_until == ends[-1]

    def test_a_locked_object_is_not_overwritten(self, store: ObjectStore) -> None:
        if info := self._put_locked(store):
            with pytest.raises(ObjectExists):
                store.put(info.name, b"other", retain_until=self._end(info) + 1)
            assert store.get(info.name) == DATA
            assert store.head(info.name).retain_until == info.retain_until

    def test_a_lock_is_kept_after_reopening(self, store: ObjectStore) -> None:
        if info := self._put_locked(store):
            again = self.reopen(store)
            self.assert_same(again.head(info.name), info)
            self._refused(again, info)

    def test_close_twice_is_harmless(self, store: ObjectStore) -> None:
        store.close()
        store.close()

    def _put_locked(self, store: ObjectStore) -> ObjectInfo | None:
        """A freshly locked object, or None from a store that cannot hold locks."""
        if store.lock_enforcement is LockEnforcement.NONE:
            return None
        end = store.now() + self.lock_s
        info = store.put("a/locked", DATA, retain_until=end)
        assert info.retain_until == end
        return info

    def _end(self, info: ObjectInfo) -> int:
        assert info.retain_until is not None
        return info.retain_until

    def _refused(self, store: ObjectStore, info: ObjectInfo) -> None:
        with pytest.raises(ObjectLocked) as caught:
            store.delete_expired(info.name, version=info.version)
        assert caught.value.retain_until == info.retain_until
        assert store.get(info.name, version=info.version) == DATA
