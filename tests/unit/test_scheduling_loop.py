"""The loop of the service, on a clock of its own and with runs that end when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from donjon.core.errors import CatalogFailed
from donjon.scheduling.due import Due, Reason
from donjon.scheduling.loop import INTERRUPTED_S, LONGEST_WAIT_S, Job, Loop, Surroundings


@dataclass
class FakeJob:
    """A run that takes ``takes_s``, and ends ``obeys_s`` after it is interrupted, if ever."""

    world: World
    workload: str
    ends_at: float
    obeys_s: float | None = 1.0
    code: int = 0
    told: list[str] = field(default_factory=list)

    def poll(self) -> int | None:
        return self.code if self.world.monotonic >= self.ends_at else None

    def interrupt(self) -> None:
        self.told.append("interrupt")
        if self.obeys_s is not None:
            self.ends_at, self.code = self.world.monotonic + self.obeys_s, 130

    def kill(self) -> None:
        self.told.append("kill")
        self.ends_at, self.code = self.world.monotonic, -9


class World:
    """Workloads that are due every ``every`` seconds of the wall clock, by what ran last."""

    def __init__(self, every: dict[str, int], *, takes_s: float = 10) -> None:
        self.wall = 1_000_000
        self.monotonic = 0.0
        self.takes_s = takes_s
        self.last: dict[str, int] = dict.fromkeys(every, 1_000_000)
        self.every = every
        self.jobs: list[FakeJob] = []
        self.events: list[tuple[str, dict[str, object]]] = []
        self.beats: list[float] = []
        self.stops_at: list[float] = []
        self.at: list[tuple[float, Callable[[], None]]] = []
        self.make: Callable[[FakeJob], None] = lambda _: None
        self.failing: Exception | None = None

    def agenda(self, now: int) -> list[Due]:
        if self.failing is not None:
            raise self.failing
        busy = {job.workload for job in self.jobs if job.poll() is None}
        due = [
            Due(name, self.last[name] + every, Reason.SCHEDULED)
            for name, every in self.every.items()
            if name not in busy
        ]
        return sorted(due, key=lambda one: one.at)

    def start(self, one: Due) -> Job:
        job = FakeJob(self, one.workload, self.monotonic + self.takes_s)
        self.make(job)
        self.jobs.append(job)
        self.last[one.workload] = self.wall
        return job

    def wait(self, seconds: float) -> None:
        """Sleep, until a run ends or a signal comes."""
        assert 0 < seconds <= LONGEST_WAIT_S
        marks = [job.ends_at for job in self.jobs] + self.stops_at + [at for at, _ in self.at]
        until = min([self.monotonic + seconds, *(mark for mark in marks if mark > self.monotonic)])
        self.wall += round(until - self.monotonic)
        self.monotonic = until
        for at, act in list(self.at):
            if at <= until:
                self.at.remove((at, act))
                act()

    def running(self) -> int:
        return sum(job.poll() is None for job in self.jobs)

    def run(self, *, at_once: int = 1, grace_s: float = 100, until: float = 1000) -> None:
        self.stops_at = self.stops_at or [until]
        around = Surroundings(
            agenda=self.agenda,
            start=self.start,
            ended=lambda workload, job, code: self.events.append(("ended", {"w": workload, "code": code})),
            clock=lambda: self.wall,
            wait=self.wait,
            beat=lambda: self.beats.append(self.monotonic),
            asked=lambda: sum(at <= self.monotonic for at in self.stops_at),
            journal=lambda event, /, **fields: self.events.append((event, fields)),
            monotonic=lambda: self.monotonic,
        )
        Loop(around, at_once=at_once, grace_s=grace_s).run()


def test_what_is_due_starts_on_time_and_nothing_else() -> None:
    world = World({"a": 100, "b": 250})
    world.run(until=600)
    starts = [(job.workload, round(job.ends_at - world.takes_s)) for job in world.jobs]
    assert starts == [("a", 100), ("a", 200), ("b", 250), ("a", 300), ("a", 400), ("a", 500), ("b", 510)]
    assert not any(event == "interrupting" for event, _ in world.events)


@pytest.mark.parametrize("at_once", [1, 3])
def test_so_many_run_at_once_and_no_more(at_once: int) -> None:
    world = World(dict.fromkeys("abcdef", 10), takes_s=50)
    most = 0
    real = world.start

    def start(one: Due) -> Job:
        nonlocal most
        job = real(one)
        most = max(most, world.running())
        return job

    world.start = start  # type: ignore[method-assign]
    world.run(at_once=at_once, until=400)
    assert most == at_once
    assert {job.workload for job in world.jobs} == set("abcdef")


def test_a_workload_never_runs_twice_at_once() -> None:
    world = World({"a": 10}, takes_s=95)
    world.run(at_once=8, until=500)
    spans = [(job.ends_at - world.takes_s, job.ends_at) for job in world.jobs]
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


def test_after_a_sleep_of_days_what_was_missed_is_made_up_for_once() -> None:
    world = World({"a": 3600})
    days = 3 * 86_400

    def wake() -> None:
        world.wall += days  # the machine slept: the wall clock jumped, and monotonic time stood still

    world.at = [(100.0, wake)]
    world.run(until=300)
    assert len(world.jobs) == 1
    assert world.jobs[0].ends_at - world.takes_s <= 100 + LONGEST_WAIT_S
    ((_, fields),) = [one for one in world.events if one[0] == "started"]
    late = fields["late_s"]
    assert isinstance(late, int)
    assert abs(late - (days - 3600)) < 200


def test_a_failed_run_is_not_started_again_at_once_whatever_is_due() -> None:
    world = World({"a": 0}, takes_s=1)
    world.make = lambda job: setattr(job, "code", 1)
    world.run(until=300)
    assert 4 <= len(world.jobs) <= 6


def test_a_run_that_cannot_be_started_keeps_no_other_from_it() -> None:
    world = World({"a": 10, "b": 10})
    real = world.start

    def start(one: Due) -> Job:
        if one.workload == "a":
            raise OSError(11, "Resource temporarily unavailable")
        return real(one)

    world.start = start  # type: ignore[method-assign]
    world.run(until=100)
    assert {job.workload for job in world.jobs} == {"b"}
    assert any(event == "error" and fields["workload"] == "a" for event, fields in world.events)


def test_without_a_catalog_nothing_starts_and_it_goes_on_once_it_is_back() -> None:
    world = World({"a": 10})
    world.failing = CatalogFailed("the catalog is away", hint="Wait.")
    world.at = [(200.0, lambda: setattr(world, "failing", None))]
    world.run(until=400)
    assert world.jobs
    assert world.jobs[0].ends_at - world.takes_s >= 200
    assert ("error", {"message": "the catalog is away", "hint": "Wait."}) in world.events


def test_a_stop_lets_what_runs_come_to_its_end_and_starts_nothing() -> None:
    world = World({"a": 10, "b": 30}, takes_s=60)
    world.stops_at = [20.0]
    world.run(grace_s=100)
    assert [(job.workload, job.told) for job in world.jobs] == [("a", [])]
    assert world.events[-1] == ("ended", {"w": "a", "code": 0})
    assert world.monotonic == 70


def test_after_the_grace_what_runs_is_interrupted_and_then_killed() -> None:
    world = World({"a": 10, "b": 10}, takes_s=10_000)
    world.make = lambda job: setattr(job, "obeys_s", 5.0 if job.workload == "a" else None)
    world.stops_at = [20.0]
    world.run(at_once=2, grace_s=40)
    told = {job.workload: job.told for job in world.jobs}
    assert told == {"a": ["interrupt"], "b": ["interrupt", "kill"]}
    assert world.monotonic == 20 + 40 + INTERRUPTED_S
    ended = [fields for event, fields in world.events if event == "ended"]
    assert ended == [{"w": "a", "code": 130}, {"w": "b", "code": -9}]


def test_a_second_stop_interrupts_and_a_third_kills() -> None:
    world = World({"a": 10}, takes_s=10_000)
    world.make = lambda job: setattr(job, "obeys_s", None)
    world.stops_at = [20.0, 25.0, 31.0]
    world.run(grace_s=1000)
    assert world.jobs[0].told == ["interrupt", "kill"]
    assert world.monotonic == 31


def test_the_watchdog_hears_of_it_at_least_twice_a_minute() -> None:
    world = World({"a": 100_000}, takes_s=100)
    world.run(until=3000)
    gaps = [second - first for first, second in pairwise(world.beats)]
    assert max(gaps) <= LONGEST_WAIT_S
