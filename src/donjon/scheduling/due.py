"""What is due, and when: a pure function of the plan, of what ran last, and of the time.

Whoever runs the plan keeps a ``History`` of each workload and asks again whenever something ended. Nothing is
remembered here, so nothing is lost when it is killed. All times are Unix seconds.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from donjon.plan.cron import Cron
from donjon.plan.model import Plan, Rules, Schedule
from donjon.plan.windows import DailyWindow

DEFAULT_RETRIES: Final = 3
#: The first retry comes so long after a failure; each further one waits four times as long, up to the second.
FIRST_RETRY_S: Final = 60
LONGEST_RETRY_S: Final = 3600
#: A start that is no further in the future was seen by a clock that has been set right since.
CLOCK_SKEW_S: Final = 300


class Reason(enum.Enum):
    """Why a workload is due."""

    FIRST = "first"  #: it never ran
    SCHEDULED = "scheduled"  #: its schedule says so
    RETRY = "retry"  #: the last run failed


@dataclass(frozen=True, slots=True)
class History:
    """What became of a workload so far, by this host's clock; the default is one that never ran.

    ``failures`` are runs that failed in a row, those that were killed among them. ``last_ended_at`` is the
    end of the last run, ``can_retry`` whether the same may succeed if it is tried again soon.
    """

    last_started_at: int | None = None
    last_succeeded_at: int | None = None
    last_ended_at: int | None = None
    failures: int = 0
    can_retry: bool = True


@dataclass(frozen=True, slots=True)
class Due:
    """When a workload is to start next, and why. It is due now if ``at`` has come."""

    workload: str
    at: int
    reason: Reason


def due_at(rules: Rules, name: str, history: History, now: int) -> int | None:
    """When a workload is to start next; None if it has no schedule, or one that never comes."""
    found = due(rules, name, history, now)
    return found.at if found else None


def agenda(plan: Plan, histories: Mapping[str, History], now: int) -> list[Due]:
    """Every workload that has a schedule, in the order in which they are due."""
    found = (due(plan.rules(name), name, histories.get(name, History()), now) for name in plan.workloads)
    return sorted((one for one in found if one), key=lambda one: (one.at, one.workload))


def due(rules: Rules, name: str, history: History, now: int) -> Due | None:
    """When a workload is to start next, and why.

    A workload that never ran is due at once. However many times were missed, one run makes up for them. Work
    that is due while the window is closed waits until it opens.
    """
    schedule = rules.schedule
    if schedule is None:
        return None
    if history.last_started_at is None:
        return Due(name, _within_window(schedule, now), Reason.FIRST)
    if history.last_started_at > now + CLOCK_SKEW_S:  # by a clock that was wrong: it says nothing
        return Due(name, _within_window(schedule, now), Reason.SCHEDULED)
    found = []
    if (regular := _start_after(schedule, name, history.last_started_at)) is not None:
        found.append(Due(name, _not_missed(schedule, regular, now), Reason.SCHEDULED))
    if (again := _retry_at(rules, history, now)) is not None:
        again = _not_missed(schedule, _within_window(schedule, again), now)
        found.append(Due(name, again, Reason.RETRY))
    return min(found, key=lambda one: one.at, default=None)


def _start_after(schedule: Schedule, name: str, last: int) -> int | None:
    """The start that the schedule wants after one that was at ``last``."""
    if schedule.every is not None:
        wanted: int | None = last + schedule.every
    else:
        wanted = Cron.parse(schedule.cron or "").after(last, ZoneInfo(schedule.time_zone))
    if wanted is None:
        return None
    start = _within_window(schedule, wanted)
    room = schedule.jitter
    if schedule.window is not None:  # no jitter leads out of the window
        room = min(
            room, _window(schedule).at_or_after(start, ZoneInfo(schedule.time_zone)).closes_at - start - 1
        )
    return start + int(room * _fraction(name, wanted))


def _not_missed(schedule: Schedule, start: int, now: int) -> int:
    """The start; if it has passed while the window was open, and that is closed now, when it opens again."""
    opening = _within_window(schedule, now)
    return opening if start < now < opening else start


def _retry_at(rules: Rules, history: History, now: int) -> int | None:
    """When to try again what failed; None if that is no use, or was done as often as it may be."""
    retries = DEFAULT_RETRIES if rules.retries is None else rules.retries
    tried = history.failures % (retries + 1)  # each regular start has as many
    ended = history.last_ended_at if history.last_ended_at is not None else history.last_started_at
    if not tried or not history.can_retry or ended is None:
        return None
    wait: int = FIRST_RETRY_S * 4 ** min(tried - 1, 10)
    return min(ended, now) + min(wait, LONGEST_RETRY_S)


def _within_window(schedule: Schedule, moment: int) -> int:
    """The moment, or when the window opens next."""
    if schedule.window is None:
        return moment
    return max(moment, _window(schedule).at_or_after(moment, ZoneInfo(schedule.time_zone)).opens_at)


def _window(schedule: Schedule) -> DailyWindow:
    assert schedule.window is not None  # noqa: S101  (both callers have looked)
    return DailyWindow.of(schedule.window.start, schedule.window.end)


def _fraction(name: str, moment: int) -> float:
    """From 0 to 1, the same for the same workload and time wherever and whenever it is asked for."""
    data = hashlib.blake2b(f"{name}\0{moment}".encode(), digest_size=8).digest()
    return int.from_bytes(data, "big") / 2**64
