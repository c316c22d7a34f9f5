"""A store that fails on command, for tests of crashes, lost replies and damage."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from donjon.core.errors import StoreUnavailable
from donjon.stores.base import Buffer, ObjectInfo, ObjectStore, Write, truncated
from donjon.stores.wrapper import StoreWrapper

T = TypeVar("T")


class Crash(BaseException):
    """The process dies here. No ``except Exception`` of the code under test can swallow it."""


class Fault(enum.Enum):
    """What happens at a call."""

    CRASH_BEFORE = "crash before"  #: ``Crash``, and the store has not seen the call
    CRASH_AFTER = "crash after"  #: the store has done it, then ``Crash``
    UNAVAILABLE = "unavailable"  #: ``StoreUnavailable``, and the store has not seen the call
    REPLY_LOST = "reply lost"  #: the store has done it, then ``StoreUnavailable``
    CORRUPT = "corrupt"  #: one bit of the bytes put or got is flipped; calls without bytes are as usual
    TRUNCATE = "truncate"  #: the second half of the bytes, or of a listing, is missing


@dataclass(frozen=True, slots=True)
class Call:
    """A call that reached the wrapper: the method, and its name or prefix."""

    method: str
    name: str


class FaultyStore(StoreWrapper):
    """Numbers the calls from 1 and lets the call n suffer ``plan[n]``.

    The same calls in the same order meet the same faults. A test runs once with an empty plan, reads how
    many ``calls`` there were, and then runs once for each of them. After a crash every further call
    raises ``Crash`` and does nothing, as if the process were gone, until the test makes a new wrapper.
    ``now``, ``lock_enforcement`` and ``close`` are not numbered. A listing is one call, made when it is
    asked for; its faults show when it is consumed.
    """

    def __init__(self, inner: ObjectStore, plan: Mapping[int, Fault] | None = None) -> None:
        """Without a plan nothing fails and the calls are counted."""
        super().__init__(inner)
        self._plan = dict(plan or {})
        self._calls: list[Call] = []
        self._crashed = False
        self._mutex = threading.Lock()

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls so far, the first one being number 1."""
        return tuple(self._calls)

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        """See the port; CORRUPT and TRUNCATE damage what is stored."""
        fault = self._next("put", name)
        stored = _damaged(bytes(data), fault) if fault in _DAMAGE else data
        return self._suffer(fault, lambda: self.inner.put(name, stored, retain_until=retain_until))

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        """See the port; CORRUPT and TRUNCATE damage what is returned."""
        fault = self._next("get", name)
        data = self._suffer(
            fault, lambda: self.inner.get(name, offset=offset, length=length, version=version)
        )
        return _damaged(data, fault)

    def stream(self, name: str, size_bytes: int, write: Write, *, version: str | None = None) -> None:
        """See the port; CORRUPT damages each piece, TRUNCATE raises ``IntegrityFailure`` after the first."""
        fault = self._next("stream", name)

        def damaging(offset: int, piece: memoryview) -> None:
            write(offset, memoryview(_damaged(bytes(piece), fault)))
            if fault is Fault.TRUNCATE:
                raise truncated(name, size_bytes, offset + len(piece) // 2)

        self._suffer(fault, lambda: self.inner.stream(name, size_bytes, damaging, version=version))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See the port; TRUNCATE hides the second half."""
        return self._listing(self._next("list", prefix), prefix)

    def _listing(self, fault: Fault | None, prefix: str) -> Iterator[ObjectInfo]:
        if fault is None:
            yield from self.inner.list(prefix)
            return
        entries = self._suffer(fault, lambda: [*self.inner.list(prefix)])
        yield from entries[: len(entries) // 2] if fault is Fault.TRUNCATE else entries

    def _around(self, method: str, name: str, call: Callable[[], T]) -> T:
        return self._suffer(self._next(method, name), call)

    def _next(self, method: str, name: str) -> Fault | None:
        with self._mutex:
            if self._crashed:
                raise Crash
            self._calls.append(Call(method, name))
            return self._plan.get(len(self._calls))

    def _suffer(self, fault: Fault | None, call: Callable[[], T]) -> T:
        if fault is Fault.CRASH_BEFORE:
            self._crash()
        if fault is Fault.UNAVAILABLE:
            raise StoreUnavailable("the plan wants this call to fail", hint="This is a test.")
        try:
            return call()
        finally:  # a reply that is a refusal is lost as well
            if fault is Fault.CRASH_AFTER:
                self._crash()
            if fault is Fault.REPLY_LOST:
                raise StoreUnavailable("the plan wants this reply to be lost", hint="This is a test.")

    def _crash(self) -> None:
        self._crashed = True
        raise Crash


_DAMAGE = {Fault.CORRUPT, Fault.TRUNCATE}


def _damaged(data: bytes, fault: Fault | None) -> bytes:
    """``data`` with the lowest bit of its middle byte flipped, or its first half, or as it is."""
    middle = len(data) // 2
    if fault is Fault.TRUNCATE:
        return data[:middle]
    if fault is Fault.CORRUPT and data:
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    return data
