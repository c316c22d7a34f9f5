from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from donjon.core.errors import (
    IntegrityFailure,
    ObjectExists,
    ObjectNotFound,
    PermissionMissing,
    StoreUnavailable,
)
from donjon.stores.base import Buffer, ObjectInfo
from donjon.stores.memory import MemoryStore
from donjon.stores.observe import CallReport, ObservingStore
from donjon.stores.retry import RetryingStore
from donjon.stores.wrapper import StoreWrapper
from donjon.testing.clock import ManualClock
from donjon.testing.conformance.stores import streamed
from donjon.testing.faulty import Call, Crash, Fault, FaultyStore


class Time:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.seconds += seconds


def retrying(
    inner: StoreWrapper, watch: Time, attempts: int = 8, budget_s: float = 1e9, random: float = 1.0
) -> RetryingStore:
    return RetryingStore(inner, attempts, budget_s, watch.sleep, lambda: random, watch)


def failing(inner: MemoryStore, *faults: Fault | None) -> FaultyStore:
    """A store whose first calls suffer these faults."""
    return FaultyStore(inner, {n: fault for n, fault in enumerate(faults, 1) if fault})


# Retrying


def test_pauses_double_up_to_a_ceiling() -> None:
    watch = Time()
    store = retrying(failing(MemoryStore(), *[Fault.UNAVAILABLE] * 9), watch, attempts=10)
    store.put("one", b"data")
    assert watch.naps == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0])


def test_jitter_is_full() -> None:
    watch = Time()
    store = retrying(failing(MemoryStore(), *[Fault.UNAVAILABLE] * 3), watch, random=0.25)
    store.put("one", b"data")
    assert watch.naps == pytest.approx([0.05, 0.1, 0.2])


def test_attempts_are_bounded_and_the_last_error_is_raised() -> None:
    watch = Time()
    inner = failing(MemoryStore(), *[Fault.UNAVAILABLE] * 9)
    with pytest.raises(StoreUnavailable):
        retrying(inner, watch, attempts=3).put("one", b"data")
    assert len(inner.calls) == 3
    assert len(watch.naps) == 2


def test_no_pause_goes_beyond_the_budget() -> None:
    watch = Time()
    inner = failing(MemoryStore(), *[Fault.UNAVAILABLE] * 99)
    with pytest.raises(StoreUnavailable):
        retrying(inner, watch, attempts=99, budget_s=10.0).get("one")
    assert watch.naps == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2])
    assert watch.seconds <= 10.0


def test_each_call_has_a_budget_of_its_own() -> None:
    watch = Time()
    plan = dict.fromkeys([1, 3, 5, 7], Fault.UNAVAILABLE)
    store = retrying(FaultyStore(MemoryStore(), plan), watch, budget_s=0.3)
    for number in range(4):
        store.put(f"{number}", b"data")
    assert watch.naps == pytest.approx([0.2] * 4)


def test_other_errors_are_raised_at_once() -> None:
    watch = Time()
    inner = FaultyStore(MemoryStore())
    with pytest.raises(ObjectNotFound):
        retrying(inner, watch).get("one")
    assert len(inner.calls) == 1
    assert watch.naps == []


def test_a_crash_is_not_retried() -> None:
    inner = failing(MemoryStore(), Fault.CRASH_BEFORE)
    with pytest.raises(Crash):
        retrying(inner, Time()).put("one", b"data")
    assert len(inner.calls) == 1


def test_a_put_whose_reply_was_lost_has_succeeded() -> None:
    clock = ManualClock()
    memory = MemoryStore(clock)
    store = retrying(failing(memory, Fault.REPLY_LOST), Time())
    content = bytes(20_000_000)
    info = store.put("one", content, retain_until=clock() + 10)
    assert info == memory.head("one")
    assert memory.get("one") == content


def test_a_name_taken_at_the_first_try_is_an_error_even_with_the_same_bytes() -> None:
    memory = MemoryStore()
    memory.put("one", b"data")
    inner = FaultyStore(memory)
    with pytest.raises(ObjectExists):
        retrying(inner, Time()).put("one", b"data")
    assert inner.calls == (Call("put", "one"),)


@pytest.mark.parametrize("content", [b"datA", b"dat", b"data!", b""])
def test_a_name_taken_by_other_bytes_is_an_error_at_the_retry_too(content: bytes) -> None:
    memory = MemoryStore()
    memory.put("one", content)
    with pytest.raises(ObjectExists):
        retrying(failing(memory, Fault.UNAVAILABLE), Time()).put("one", b"data")
    assert memory.get("one") == content


@pytest.mark.parametrize("present", [None, 9])
def test_the_same_bytes_under_a_shorter_lock_are_not_what_was_put(present: int | None) -> None:
    memory = MemoryStore(ManualClock(0))
    memory.put("one", b"data", retain_until=present)
    with pytest.raises(ObjectExists):
        retrying(failing(memory, Fault.UNAVAILABLE), Time()).put("one", b"data", retain_until=10)


def test_a_comparison_that_fails_is_tried_again() -> None:
    faults = [
        Fault.REPLY_LOST,
        None,
        Fault.UNAVAILABLE,
        None,
        None,
        Fault.UNAVAILABLE,
    ]  # put, put, head, put, head, get
    store = retrying(failing(MemoryStore(), *faults), Time())
    assert store.put("one", b"data").size_bytes == 4


def test_a_writer_that_may_not_read_is_told_that_the_object_exists() -> None:
    class WriteOnly(FaultyStore):
        def head(self, name: str, *, version: str | None = None) -> ObjectInfo:
            raise PermissionMissing(f"{name}: no permission to read")

    with pytest.raises(ObjectExists):
        retrying(WriteOnly(MemoryStore(), {1: Fault.REPLY_LOST}), Time()).put("one", b"data")


def test_a_delete_whose_reply_was_lost_has_succeeded() -> None:
    memory = MemoryStore()
    memory.put("one", b"data")
    retrying(failing(memory, Fault.REPLY_LOST), Time()).delete_expired("one")
    assert list(memory.list()) == []
    with pytest.raises(ObjectNotFound):
        retrying(failing(memory), Time()).delete_expired("one")


class BreakingList(StoreWrapper):
    """Gives two versions of each object, and breaks off once between them."""

    position = 0

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for number, info in enumerate(self.inner.list(prefix)):
            for version in ("1", "2"):
                if number == self.position and version == "2":
                    self.position += 1
                    raise StoreUnavailable("the connection broke")
                yield ObjectInfo(info.name, info.size_bytes, info.stored_at, version=version)


def test_a_broken_listing_goes_on_where_it_was() -> None:
    memory = MemoryStore()
    names = ["a", "b", "c/1", "c/2", "d"]
    for name in names:
        memory.put(name, b"")
    watch = Time()
    listed = [(info.name, info.version) for info in retrying(BreakingList(memory), watch, attempts=2).list()]
    assert listed == list(itertools.product(names, ["1", "2"]))
    assert watch.naps == pytest.approx([0.2] * 5)


def test_a_listing_without_progress_gives_up() -> None:
    inner = failing(MemoryStore(), *[Fault.UNAVAILABLE] * 99)
    with pytest.raises(StoreUnavailable):
        list(retrying(inner, Time(), attempts=4).list())
    assert len(inner.calls) == 4


# Observing


def test_observing_counts_calls_bytes_failures_and_seconds() -> None:
    ticks = itertools.count()
    store = ObservingStore(MemoryStore(), monotonic=lambda: float(next(ticks)))
    store.put("one", b"12345")
    store.get("one", offset=1)
    store.get("one", length=2)
    assert streamed(store, "one", 3) == b"123"
    list(store.list())
    with pytest.raises(ObjectExists):
        store.put("one", b"678")
    assert store.report() == {
        "put": CallReport(calls=2, failures=1, bytes_in=5, seconds=2.0),
        "get": CallReport(calls=2, bytes_out=6, seconds=2.0),
        "stream": CallReport(calls=1, bytes_out=3, seconds=1.0),
        "list": CallReport(calls=1, seconds=2.0),
    }


def test_a_report_does_not_change_afterwards() -> None:
    store = ObservingStore(MemoryStore())
    store.put("one", b"12345")
    report = store.report()
    store.put("two", b"12345")
    assert report["put"].calls == 1


def test_observing_counts_a_listing_that_fails() -> None:
    store = ObservingStore(failing(MemoryStore(), Fault.UNAVAILABLE))
    with pytest.raises(StoreUnavailable):
        list(store.list())
    assert (store.report()["list"].calls, store.report()["list"].failures) == (1, 1)


# Failing on command


def test_a_crash_before_and_after() -> None:
    memory = MemoryStore()
    with pytest.raises(Crash):
        failing(memory, Fault.CRASH_BEFORE).put("one", b"data")
    assert list(memory.list()) == []
    with pytest.raises(Crash):
        failing(memory, Fault.CRASH_AFTER).put("one", b"data")
    assert memory.get("one") == b"data"


def test_after_a_crash_the_process_is_gone() -> None:
    store = failing(MemoryStore(), None, Fault.CRASH_BEFORE)
    store.put("one", b"data")
    with pytest.raises(Crash):
        store.get("one")
    with pytest.raises(Crash):
        store.put("two", b"data")
    with pytest.raises(Crash):
        store.list()
    assert store.calls == (Call("put", "one"), Call("get", "one"))
    assert not issubclass(Crash, Exception)


def test_unavailable_and_a_lost_reply() -> None:
    memory = MemoryStore()
    store = failing(memory, Fault.UNAVAILABLE, Fault.REPLY_LOST)
    for _ in range(2):
        assert list(memory.list()) == []
        with pytest.raises(StoreUnavailable):
            store.put("one", b"data")
    assert memory.get("one") == b"data"


@pytest.mark.parametrize(("fault", "damaged"), [(Fault.CORRUPT, b"daua"), (Fault.TRUNCATE, b"da")])
def test_damage_in_both_directions(fault: Fault, damaged: bytes) -> None:
    memory = MemoryStore()
    failing(memory, fault).put("bad", b"data")
    assert memory.get("bad") == damaged
    memory.put("good", b"data")
    assert failing(memory, fault).get("good") == damaged
    assert memory.get("good") == b"data"


def test_damage_of_a_stream() -> None:
    memory = MemoryStore()
    memory.put("good", b"data")
    assert streamed(failing(memory, Fault.CORRUPT), "good", 4) == b"daua"
    with pytest.raises(IntegrityFailure, match="ends at byte 2"):
        streamed(failing(memory, Fault.TRUNCATE), "good", 4)


def test_a_listing_can_lose_its_second_half() -> None:
    memory = MemoryStore()
    for name in "abcd":
        memory.put(name, b"")
    assert [info.name for info in failing(memory, Fault.TRUNCATE).list()] == ["a", "b"]
    assert [info.name for info in failing(memory, Fault.CORRUPT).list()] == ["a", "b", "c", "d"]


# Memory


def test_a_snapshot_is_independent_of_its_store() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    data: Buffer = bytes(1000)
    store.put("one", data, retain_until=clock() + 10)
    snapshot = store.snapshot()
    store.put("two", b"data")
    store.extend("one", clock() + 20)
    again = MemoryStore.from_snapshot(snapshot, clock)
    assert [(info.name, info.retain_until) for info in again.list()] == [("one", clock() + 10)]
    again.put("three", b"data")
    assert sorted(snapshot) == ["one"]
    assert again.get("one") is data  # nothing was copied
