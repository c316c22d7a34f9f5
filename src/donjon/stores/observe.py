"""Counts what goes to and from a store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from donjon.stores.base import Buffer, ObjectInfo, ObjectStore, Write
from donjon.stores.wrapper import StoreWrapper

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CallReport:
    """What all calls of one method came to.

    ``bytes_in`` went into the store and ``bytes_out`` came out of it, by calls that succeeded.
    ``seconds`` is the sum over all threads, so it may exceed the time on the wall.
    """

    calls: int = 0
    failures: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0


class ObservingStore(StoreWrapper):
    """Measures every call on the way to ``inner``."""

    def __init__(self, inner: ObjectStore, monotonic: Callable[[], float] = time.perf_counter) -> None:
        """``monotonic`` gives seconds."""
        super().__init__(inner)
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._reports: dict[str, CallReport] = {}

    def report(self) -> Mapping[str, CallReport]:
        """What each method called so far came to."""
        with self._mutex:
            return dict(self._reports)

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        """See the port."""
        info = super().put(name, data, retain_until=retain_until)
        self._add("put", bytes_in=len(data))
        return info

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        """See the port."""
        data = super().get(name, offset=offset, length=length, version=version)
        self._add("get", bytes_out=len(data))
        return data

    def stream(self, name: str, size_bytes: int, write: Write, *, version: str | None = None) -> None:
        """See the port."""
        super().stream(name, size_bytes, write, version=version)
        self._add("stream", bytes_out=size_bytes)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See the port. One call, however many pages; the time of whoever consumes it does not count."""
        self._add("list", calls=1)
        entries = self.inner.list(prefix)
        while True:
            start = self._monotonic()
            try:
                info = next(entries, None)
            except BaseException:
                self._add("list", failures=1)
                raise
            finally:
                self._add("list", seconds=self._monotonic() - start)
            if info is None:
                return
            yield info

    def _around(self, method: str, name: str, call: Callable[[], T]) -> T:
        start = self._monotonic()
        failures = 1
        try:
            result = call()
            failures = 0
            return result
        finally:
            self._add(method, calls=1, failures=failures, seconds=self._monotonic() - start)

    def _add(self, method: str, **amounts: float) -> None:
        with self._mutex:
            report = self._reports.get(method, CallReport())
            changed = {field: getattr(report, field) + amount for field, amount in amounts.items()}
            self._reports[method] = replace(report, **changed)
