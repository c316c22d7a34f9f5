"""The longest time that a schedule leaves between two starts."""

from __future__ import annotations

import functools
import itertools
from datetime import date, timedelta
from typing import Final

from donjon.plan.cron import Cron
from donjon.plan.model import Schedule
from donjon.plan.windows import DailyWindow

_DAY_M: Final = 1440
_DAY_S: Final = 86_400
#: A leap day comes at least once in so many days, until 2100.
_DAYS: Final = 3 * 1461
_ROUNDS: Final = 2000


def longest_gap(schedule: Schedule) -> int | None:
    """The longest time from one start to the next in seconds, with jitter; None if it never starts.

    The window is counted in, changes of the clocks are not: they add an hour twice a year at most.
    """
    window = DailyWindow.of(schedule.window.start, schedule.window.end) if schedule.window else None
    if schedule.every is not None:
        gap = _of_interval(schedule.every, window) if window else schedule.every
    else:
        cron = Cron.parse(schedule.cron or "")
        if not cron.can_fire:
            return None
        gap = 60 * _of_cron(cron, window)
    return gap + schedule.jitter


def _of_interval(every: int, window: DailyWindow) -> int:
    """Starts follow each other from when the window opens; what falls outside waits until it opens again."""
    length, start, longest = window.length_m * 60, 0, every
    seen: set[int] = set()
    while start not in seen and len(seen) < _ROUNDS:
        seen.add(start)
        wanted = start + every
        rest = wanted % _DAY_S
        begins = wanted if rest < length else wanted - rest + _DAY_S
        longest = max(longest, begins - start)
        start = begins % _DAY_S
    return longest


def _of_cron(cron: Cron, window: DailyWindow | None) -> int:
    """In minutes."""
    times = sorted({_start(minute, window) for minute in cron.minutes_of_day})
    longest = 0
    for days in _distances(cron):
        starts = sorted({*times, *(days * _DAY_M + time for time in times)})
        next_day = days * _DAY_M + times[0]
        gaps = [later - sooner for sooner, later in itertools.pairwise(starts) if later <= next_day]
        longest = max(longest, *gaps)
    return longest


def _start(minute: int, window: DailyWindow | None) -> int:
    """When work starts that is due in this minute of the day; perhaps on the next one."""
    if window is None or window.contains(minute):
        return minute
    return minute + (window.start - minute) % _DAY_M


@functools.lru_cache(maxsize=256)
def _distances(cron: Cron) -> frozenset[int]:
    """The distances between the days that it means, and the next ones."""
    first = date(2024, 1, 1)
    days = [day for day in range(_DAYS) if cron.is_on(first + timedelta(days=day))]
    return frozenset(later - sooner for sooner, later in itertools.pairwise(days))
