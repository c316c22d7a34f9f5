"""Tries again what may succeed later, and tells a lost reply from a name that was taken."""

from __future__ import annotations

import random as random_numbers
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from donjon.core.errors import DonjonError, ObjectExists, ObjectNotFound, PermissionMissing
from donjon.core.retries import Retries
from donjon.core.units import MIB
from donjon.stores.base import Buffer, ObjectInfo, ObjectStore
from donjon.stores.wrapper import StoreWrapper

T = TypeVar("T")

_COMPARE_BYTES = 8 * MIB


class RetryingStore(StoreWrapper):
    """Repeats a call while its error says that this can help.

    A call is tried at most ``attempts`` times, and no pause (see ``Retries``) starts that would end later
    than ``budget_s`` after the first try. The last error is raised as it came.
    """

    def __init__(
        self,
        inner: ObjectStore,
        attempts: int = 8,
        budget_s: float = 120.0,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = random_numbers.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``random`` gives numbers from 0 to 1, ``monotonic`` seconds."""
        super().__init__(inner)
        self._retries = partial(Retries, attempts, budget_s, sleep, random, monotonic)

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        """Create an object; see the port.

        If a try may have succeeded although its reply was lost, and the next one finds the name taken by
        the same bytes under no shorter a lock, that is the success. Where the object cannot be read for
        want of permission, ``ObjectExists`` stands.
        """
        tries = 0

        def attempt() -> ObjectInfo:
            nonlocal tries
            tries += 1
            try:
                return self.inner.put(name, data, retain_until=retain_until)
            except ObjectExists:
                present = self._same(name, data, retain_until) if tries > 1 else None
                if present is None:
                    raise
                return present

        return self._around("put", name, attempt)

    def delete_expired(self, name: str, *, version: str | None = None) -> None:
        """Delete a version; see the port. Gone at a second try means that the first one succeeded."""
        tries = 0

        def attempt() -> None:
            nonlocal tries
            tries += 1
            try:
                self.inner.delete_expired(name, version=version)
            except ObjectNotFound:
                if tries == 1:
                    raise

        self._around("delete_expired", name, attempt)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every version once; a listing that breaks off is taken up after the last name it gave."""
        last = ""
        given: set[str | None] = set()
        retries = self._retries()
        while True:
            try:
                for info in self.inner.list(prefix):
                    if info.name < last or (info.name == last and info.version in given):
                        continue
                    if info.name != last:
                        last, given = info.name, set()
                    given.add(info.version)
                    retries = self._retries()  # progress: a long listing may stumble many times
                    yield info
            except DonjonError as error:
                if not retries.pause_after(error):
                    raise
            else:
                return

    def _around(self, method: str, name: str, call: Callable[[], T]) -> T:
        return self._retries().carry_out(call)

    def _same(self, name: str, data: Buffer, retain_until: int | None) -> ObjectInfo | None:
        """What is stored under ``name``, if it is what the put would have stored."""
        view = memoryview(data)
        try:
            present = self.inner.head(name)
            if present.size_bytes != len(view) or (present.retain_until or 0) < (retain_until or 0):
                return None
            for start in range(0, len(view), _COMPARE_BYTES):
                piece = view[start : start + _COMPARE_BYTES]
                if self.inner.get(name, offset=start, length=len(piece)) != piece:
                    return None
        except (PermissionMissing, ObjectNotFound):
            return None
        return present
