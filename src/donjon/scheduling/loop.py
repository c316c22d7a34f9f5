"""Starts what is due, each in a process of its own, until it is told to stop.

Nothing is remembered here but what runs: what is due follows from the plan, the catalog and the wall clock,
which are asked anew each time. So nothing is lost when this process is killed, and what was missed while the
machine slept is made up for as soon as it wakes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from donjon.core.clock import Clock
from donjon.core.errors import DonjonError
from donjon.scheduling.due import Due

#: However long nothing is due, the clock is looked at so often, as it may have jumped.
LONGEST_WAIT_S: Final = 30.0
#: A workload whose run failed is not started again sooner, whatever is said to be due.
_PAUSE_S: Final = 55.0
#: How long runs have to end after they were interrupted, before they are killed.
INTERRUPTED_S: Final = 60.0
_GOOD = {0, 3}


class Job(Protocol):
    """A run in a process of its own."""

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""

    def interrupt(self) -> None:
        """Ask it to end where nothing is half done."""

    def kill(self) -> None:
        """End it at once."""


class Journal(Protocol):
    """Hears what happens."""

    def __call__(self, event: str, /, **fields: object) -> None:
        """An event, and what belongs to it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the loop works with. Each may be another one in tests.

    ``agenda`` tells what is due, and when, of what nobody runs. ``ended`` hears of a run that ended, with its
    exit code. ``wait`` returns after so many seconds, or sooner if something happened. ``beat`` is called at
    least twice a minute. ``asked`` counts how often somebody wanted this to stop.
    """

    agenda: Callable[[int], list[Due]]
    start: Callable[[Due], Job]
    ended: Callable[[str, Job, int], None]
    clock: Clock
    wait: Callable[[float], None]
    beat: Callable[[], None]
    asked: Callable[[], int]
    journal: Journal
    monotonic: Callable[[], float] = time.monotonic


class Loop:
    """At most ``at_once`` runs at a time. ``grace_s`` is how long they may go on after a stop is wanted."""

    def __init__(self, surroundings: Surroundings, *, at_once: int, grace_s: float) -> None:
        self._around = surroundings
        self._at_once = at_once
        self._grace_s = grace_s
        self._jobs: dict[str, Job] = {}
        self._not_before: dict[str, float] = {}

    def run(self) -> None:
        """Go on until a stop is wanted, then let what runs come to its end."""
        around = self._around
        while not around.asked():
            around.beat()
            self._reap()
            around.wait(self._start_due())
        self._drain()

    def _start_due(self) -> float:
        """Start what can be started; how long to wait before the next look."""
        around = self._around
        now = around.clock()
        try:
            agenda = around.agenda(now)
        except DonjonError as error:
            around.journal("error", message=error.message, hint=error.hint)
            return LONGEST_WAIT_S
        for one in agenda:
            if one.at > now:
                return float(min(one.at - now, LONGEST_WAIT_S))
            if len(self._jobs) >= self._at_once:
                break
            if one.workload not in self._jobs and self._may_start(one.workload):
                self._start(one)
        return LONGEST_WAIT_S

    def _may_start(self, workload: str) -> bool:
        return self._around.monotonic() >= self._not_before.get(workload, 0)

    def _start(self, one: Due) -> None:
        around = self._around
        try:
            self._jobs[one.workload] = around.start(one)
        except (OSError, DonjonError) as error:
            self._pause(one.workload)
            around.journal("error", workload=one.workload, message=f"cannot be started: {error}")
            return
        late_s = max(0, around.clock() - one.at)
        around.journal("started", workload=one.workload, reason=one.reason.value, late_s=late_s)

    def _pause(self, workload: str) -> None:
        self._not_before[workload] = self._around.monotonic() + _PAUSE_S

    def _reap(self) -> None:
        for workload, job in list(self._jobs.items()):
            code = job.poll()
            if code is None:
                continue
            del self._jobs[workload]
            if code not in _GOOD:
                self._pause(workload)
            self._around.ended(workload, job, code)

    def _drain(self) -> None:
        """Wait for what runs: first for its end, then for it to stop where nothing is half done."""
        around = self._around
        if self._jobs:
            around.journal("draining", workloads=sorted(self._jobs), grace_s=self._grace_s)
        self._wait_for_jobs(self._grace_s, until_asked=2)
        for workload, job in self._jobs.items():
            around.journal("interrupting", workload=workload)
            job.interrupt()
        self._wait_for_jobs(INTERRUPTED_S, until_asked=3)
        for workload, job in self._jobs.items():
            around.journal("killing", workload=workload)
            job.kill()
        self._wait_for_jobs(INTERRUPTED_S, until_asked=4)

    def _wait_for_jobs(self, seconds: float, *, until_asked: int) -> None:
        around = self._around
        deadline = around.monotonic() + seconds
        while True:
            self._reap()
            left = deadline - around.monotonic()
            if not self._jobs or left <= 0 or around.asked() >= until_asked:
                return
            around.beat()
            around.wait(min(left, LONGEST_WAIT_S))
