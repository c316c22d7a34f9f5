from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from donjon.core.errors import ObjectNotFound, StoreUnavailable
from donjon.stores.base import Write
from donjon.stores.memory import MemoryStore
from donjon.stores.observe import ObservingStore
from donjon.stores.spool import SpoolingStore
from donjon.stores.wrapper import StoreWrapper
from donjon.testing.faulty import Fault, FaultyStore

SIZE = 1000
NAMES = ("packs/a", "packs/b", "packs/c")


@pytest.fixture
def memory() -> MemoryStore:
    store = MemoryStore()
    store.parallel = 6
    for number, name in enumerate(NAMES):
        store.put(name, content(number))
    return store


@pytest.fixture
def inner(memory: MemoryStore) -> ObservingStore:
    return ObservingStore(memory)


@pytest.fixture
def store(inner: ObservingStore, tmp_path: Path) -> Iterator[SpoolingStore]:
    store = SpoolingStore(inner, dict.fromkeys(NAMES, SIZE), tmp_path, limit_bytes=2 * SIZE)
    yield store
    store.close()


def content(number: int) -> bytes:
    return bytes((number + at) % 251 for at in range(SIZE))


def asked(inner: ObservingStore) -> dict[str, int]:
    return {method: report.calls for method, report in inner.report().items()}


def test_an_object_is_fetched_once_however_many_ranges_are_read(
    store: SpoolingStore, inner: ObservingStore, tmp_path: Path
) -> None:
    for offset in range(0, SIZE, 10):
        assert store.get("packs/a", offset=offset, length=10) == content(0)[offset : offset + 10]
    assert store.get("packs/a", offset=SIZE - 5, length=10) == content(0)[-5:]
    assert store.get("packs/a", offset=SIZE, length=10) == b""
    assert asked(inner) == {"stream": 1}
    assert list(tmp_path.iterdir()) == []  # the copies have no names


def test_other_reads_go_to_the_store(
    store: SpoolingStore, inner: ObservingStore, memory: MemoryStore
) -> None:
    memory.put("index/x", b"not a pack")
    assert store.get("index/x", offset=4, length=1) == b"a"
    assert store.get("packs/a", offset=-5) == content(0)[-5:]
    assert store.get("packs/a") == content(0)
    assert asked(inner) == {"get": 3}


def test_the_oldest_copy_goes_when_there_are_too_many(store: SpoolingStore, inner: ObservingStore) -> None:
    for number in (0, 1, 0, 2, 0, 1):  # the third one drops the second, which is then fetched again
        assert store.get(NAMES[number], offset=3, length=7) == content(number)[3:10]
    assert asked(inner) == {"stream": 4}


def test_threads_that_want_the_same_object_fetch_it_once(store: SpoolingStore, inner: ObservingStore) -> None:
    def read(at: int) -> bool:
        number = at % len(NAMES[:2])
        return store.get(NAMES[number], offset=at, length=9) == content(number)[at : at + 9]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(400)))
    assert asked(inner) == {"stream": 2}


def test_copies_are_not_dropped_while_they_are_read(inner: ObservingStore, tmp_path: Path) -> None:
    store = SpoolingStore(inner, dict.fromkeys(NAMES, SIZE), tmp_path, limit_bytes=0)

    def read(at: int) -> bool:
        return store.get(NAMES[at % 3], offset=at, length=9) == content(at % 3)[at : at + 9]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(400)))
    store.close()


def test_without_room_on_the_disk_ranges_are_read_as_before(inner: ObservingStore, tmp_path: Path) -> None:
    store = SpoolingStore(inner, dict.fromkeys(NAMES, SIZE), tmp_path / "not there")
    for _ in range(3):
        assert store.get("packs/a", offset=5, length=5) == content(0)[5:10]
    assert asked(inner) == {"get": 3}


def test_an_object_that_is_shorter_than_listed_gives_what_it_has(memory: MemoryStore, tmp_path: Path) -> None:
    store = SpoolingStore(memory, {"packs/a": SIZE + 1, "packs/gone": SIZE}, tmp_path)
    assert store.get("packs/a", offset=5, length=5) == content(0)[5:10]
    with pytest.raises(ObjectNotFound):
        store.get("packs/gone", offset=5, length=5)


def test_a_store_that_fails_is_asked_again_the_next_time(memory: MemoryStore, tmp_path: Path) -> None:
    failing = FaultyStore(memory, {1: Fault.UNAVAILABLE})
    store = SpoolingStore(failing, dict.fromkeys(NAMES, SIZE), tmp_path)
    with pytest.raises(StoreUnavailable):
        store.get("packs/a", offset=5, length=5)
    assert store.get("packs/a", offset=5, length=5) == content(0)[5:10]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_will_be_wanted_next_is_fetched_ahead_and_once(memory: MemoryStore, tmp_path: Path) -> None:
    order = [f"packs/{number:02}" for number in range(20)]
    for number, name in enumerate(order):
        memory.put(name, content(number))
    inner = ObservingStore(memory)
    store = SpoolingStore(inner, dict.fromkeys(order, SIZE), tmp_path, order, limit_bytes=10 * SIZE)
    assert store.get(order[0], offset=1, length=2) == content(0)[1:3]
    wait_for(lambda: asked(inner) == {"stream": 6})  # itself and five more
    for number, name in enumerate(order):
        assert store.get(name, offset=3, length=7) == content(number)[3:10]
    for number in (0, 1, 2):  # gone by now, and what comes after them is not fetched ahead again
        assert store.get(order[number], offset=3, length=7) == content(number)[3:10]
    store.close()
    assert asked(inner) == {"stream": 23}


def test_nothing_is_fetched_ahead_at_the_cost_of_what_is_in_use(memory: MemoryStore, tmp_path: Path) -> None:
    inner = ObservingStore(memory)
    store = SpoolingStore(inner, dict.fromkeys(NAMES, SIZE), tmp_path, NAMES, limit_bytes=SIZE)
    assert store.get("packs/a", offset=5, length=5) == content(0)[5:10]
    assert store.get("packs/b", offset=5, length=5) == content(1)[5:10]
    store.close()
    assert asked(inner) == {"stream": 2}


def test_what_fails_ahead_is_tried_again_when_it_is_wanted(memory: MemoryStore, tmp_path: Path) -> None:
    failed: list[str] = []

    class Failing(StoreWrapper):
        def stream(self, name: str, size_bytes: int, write: Write, *, version: str | None = None) -> None:
            if name != "packs/a" and name not in failed:
                failed.append(name)
                raise StoreUnavailable("away")
            super().stream(name, size_bytes, write, version=version)

    store = SpoolingStore(Failing(memory), dict.fromkeys(NAMES, SIZE), tmp_path, NAMES)
    assert store.get("packs/a", offset=5, length=5) == content(0)[5:10]
    wait_for(lambda: len(failed) == 2)
    for number, name in enumerate(NAMES):
        assert store.get(name, offset=5, length=5) == content(number)[5:10]
    store.close()


def test_closing_ends_what_is_being_fetched(memory: MemoryStore, tmp_path: Path) -> None:
    begun, go_on, pieces = threading.Event(), threading.Event(), []

    class Slow(StoreWrapper):
        def stream(self, name: str, size_bytes: int, write: Write, *, version: str | None = None) -> None:
            if name == "packs/b":
                begun.set()
                assert go_on.wait(10)
                for offset in range(size_bytes):
                    write(offset, memoryview(b"x"))
                    pieces.append(offset)
            super().stream(name, size_bytes, write, version=version)

    store = SpoolingStore(Slow(memory), dict.fromkeys(NAMES, SIZE), tmp_path, NAMES)
    store.get("packs/a", offset=5, length=5)
    assert begun.wait(10)
    threading.Timer(0.2, go_on.set).start()
    store.close()
    assert pieces == []


def test_closing_gives_the_disk_back(store: SpoolingStore) -> None:
    before = len(os.listdir("/proc/self/fd"))
    store.get("packs/a", offset=0, length=1)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    store.close()
    assert len(os.listdir("/proc/self/fd")) == before
