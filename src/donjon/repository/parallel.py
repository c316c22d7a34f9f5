"""Work in threads whose results come in order, with a bound on what is under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from donjon.core.events import StopCheck

T = TypeVar("T")
U = TypeVar("U")


def in_order(
    threads: int, work: Callable[[T], U], items: Iterable[T], stop: StopCheck, name: str
) -> Iterator[U]:
    """The results of ``work`` for all items, in their order; two for each thread are under way.

    Raises what ``work`` raises, or what ``stop`` does between two items; what runs by then is waited for.
    """
    pool = ThreadPoolExecutor(threads, name)
    under_way: deque[Future[U]] = deque()
    try:
        for item in items:
            stop()
            under_way.append(pool.submit(work, item))
            if len(under_way) >= 2 * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
