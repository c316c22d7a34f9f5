"""When to try again what may succeed later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from donjon.core.errors import DonjonError

T = TypeVar("T")

_FIRST_DELAY_S: Final = 0.2
_LONGEST_DELAY_S: Final = 20.0


class Retries:
    """The tries that one call has left.

    The pause before retry n (from 0) is drawn evenly from 0 to ``min(20 s, 0.2 s * 2**n)``: "full
    jitter", which keeps many clients from returning together
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """

    def __init__(
        self,
        attempts: int,
        budget_s: float,
        sleep: Callable[[float], None],
        random: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """At most ``attempts`` tries, the last of which starts ``budget_s`` from now at the latest.

        ``random`` gives numbers from 0 to 1, ``monotonic`` seconds.
        """
        self._left = attempts
        self._longest_s = _FIRST_DELAY_S
        self._deadline = monotonic() + budget_s
        self._sleep = sleep
        self._random = random
        self._monotonic = monotonic

    def carry_out(self, attempt: Callable[[], T]) -> T:
        """What ``attempt`` gives, tried while its errors say that this can help. Raises the last error."""
        while True:
            try:
                return attempt()
            except DonjonError as error:
                if not self.pause_after(error):
                    raise

    def pause_after(self, error: DonjonError) -> bool:
        """Wait before the next try, or return False at once if there shall be none."""
        self._left -= 1
        if not error.retryable or self._left <= 0:
            return False
        pause_s = self._random() * self._longest_s
        self._longest_s = min(2 * self._longest_s, _LONGEST_DELAY_S)
        if self._monotonic() + pause_s > self._deadline:
            return False
        self._sleep(pause_s)
        return True
