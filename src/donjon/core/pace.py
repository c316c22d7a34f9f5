"""Keeping to a number of requests a second, and trying again those that may succeed later."""

from __future__ import annotations

import random as random_numbers
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from donjon.core.retries import Retries

T = TypeVar("T")


class Pace:
    """At most ``requests_per_s`` a second for all threads together (None: any number), with retries.

    ``burst_s`` seconds' worth may go out at once after a rest. A request is tried at most ``attempts`` times,
    and no pause starts that would end later than ``budget_s`` after the first try; see ``Retries``.
    """

    def __init__(
        self,
        requests_per_s: float | None = None,
        *,
        burst_s: float = 0.0,
        attempts: int = 8,
        budget_s: float = 120.0,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = random_numbers.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``random`` gives numbers from 0 to 1, ``monotonic`` seconds."""
        self._gap_s = 1 / requests_per_s if requests_per_s else 0.0
        self._burst_s = burst_s
        self._next = monotonic() - burst_s
        self._sleep = sleep
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._retries = partial(Retries, attempts, budget_s, sleep, random, monotonic)

    def wait(self) -> None:
        """Return when it is this caller's turn."""
        if not self._gap_s:
            return
        with self._mutex:
            now = self._monotonic()
            due = max(self._next, now - self._burst_s)
            self._next = due + self._gap_s
        if due > now:
            self._sleep(due - now)

    def carry_out(self, request: Callable[[], T]) -> T:
        """Make the request, as often as its errors say that this can help. Raises the last error."""

        def in_turn() -> T:
            self.wait()
            return request()

        return self._retries().carry_out(in_turn)
