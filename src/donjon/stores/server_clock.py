"""The clock of a storage provider, read off the ``Date`` of its answers (RFC 9110, 6.6.1)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from donjon.core.errors import StoreUnavailable

#: A reading is carried on for so long by the time that passes here, and then asked for anew.
_CARRY_S = 60.0


class ServerClock:
    """What time it is at the provider, to the second.

    Between two answers the time is carried on by a monotonic clock, which no one can set; the client's
    date is never looked at. A machine that slept tells too early a time for at most a minute of its own.
    """

    def __init__(self, ask: Callable[[], object], monotonic: Callable[[], float] = time.monotonic) -> None:
        """``ask`` makes any request whose answer is passed to ``saw``."""
        self._ask = ask
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._reading: tuple[int, float] | None = None

    def saw(self, date: str | None) -> None:
        """Take the ``Date`` header of an answer that has just come; a missing or odd one is ignored."""
        try:
            unix_seconds = int(parsedate_to_datetime(date or "").timestamp())
        except ValueError:
            return
        with self._mutex:
            self._reading = unix_seconds, self._monotonic()

    def now(self) -> int:
        """Unix seconds by the provider's clock. Raises what ``ask`` raises, or ``StoreUnavailable``."""
        reading = self._reading
        if reading is None or self._monotonic() - reading[1] > _CARRY_S:
            self._reading = None
            self._ask()
            reading = self._reading
        if reading is None:
            msg = "the store answers without telling its time"
            raise StoreUnavailable(msg, hint="Look for a proxy that removes Date headers.")
        return reading[0] + int(self._monotonic() - reading[1])
