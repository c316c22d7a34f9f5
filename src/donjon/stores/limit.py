"""Lets no more go into a store each second than is allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from donjon.stores.base import Buffer, ObjectInfo, ObjectStore
from donjon.stores.wrapper import StoreWrapper


class Bucket:
    """A token bucket that may be overdrawn: what is too large for it goes now, and the next waits longer.

    Any number of threads may take from it; in all they get ``rate`` a second, in the long run exactly.
    """

    def __init__(
        self,
        rate: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``rate`` is a second, and as much may be saved up. ``monotonic`` gives seconds."""
        self._rate = rate
        self._monotonic = monotonic
        self._sleep = sleep
        self._mutex = threading.Lock()
        self._level = float(rate)
        self._seen = monotonic()

    def take(self, amount: float) -> None:
        """Take so much, and return when its turn has come."""
        with self._mutex:
            now = self._monotonic()
            self._level = min(self._rate, self._level + (now - self._seen) * self._rate)
            self._seen = now
            debt = -self._level
            self._level -= amount
        if debt > 0:
            self._sleep(debt / self._rate)


class LimitedStore(StoreWrapper):
    """Holds back puts so that the store gets at most so many bytes a second on average.

    An object goes at the speed of the network once its turn has come.
    """

    def __init__(self, inner: ObjectStore, bucket: Bucket) -> None:
        """``bucket`` counts bytes, and may be that of other stores as well."""
        super().__init__(inner)
        self._bucket = bucket

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        """See the port."""
        self._bucket.take(len(data))
        return super().put(name, data, retain_until=retain_until)
