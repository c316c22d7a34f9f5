"""The limit of what goes into a store each second, on a clock of its own."""

from __future__ import annotations

import threading

from donjon.stores.limit import Bucket, LimitedStore
from donjon.stores.memory import MemoryStore


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self._mutex = threading.Lock()

    def sleep(self, seconds: float) -> None:
        with self._mutex:
            self.now += seconds
            self.slept.append(seconds)


def bucket(rate: float, time: Time) -> Bucket:
    return Bucket(rate, monotonic=lambda: time.now, sleep=time.sleep)


def test_puts_keep_to_the_rate_and_a_large_one_is_paid_for_by_the_next() -> None:
    time = Time()
    with LimitedStore(MemoryStore(), bucket(1000, time)) as store:
        store.put("a", bytes(5000))
        assert time.slept == []
        store.put("b", bytes(1))
        assert time.slept == [4.0]
        store.put("c", bytes(1000))
        assert time.slept == [4.0, 0.001]
        assert store.get("a") == bytes(5000)


def test_what_was_not_used_is_saved_for_one_second_only() -> None:
    time = Time()
    limit = bucket(100, time)
    time.now += 3600
    for _ in range(3):
        limit.take(100)
    assert time.slept == [1.0]


def test_many_threads_get_the_rate_in_all() -> None:
    time = Time()
    limit = bucket(1000, time)

    def take() -> None:
        for _ in range(50):
            limit.take(10)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # 4000 bytes, the first 1000 of them at once; each wait is counted for each thread that waits.
    assert time.now >= 2.9


def test_reads_and_listings_are_free() -> None:
    time = Time()
    with LimitedStore(MemoryStore(), bucket(1, time)) as store:
        store.put("a", bytes(1000))
        assert store.get("a", length=10) == bytes(10)
        assert [info.name for info in store.list()] == ["a"]
        assert store.head("a").size_bytes == 1000
    assert time.slept == []
