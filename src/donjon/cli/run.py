"""`donjon run`: the service that runs the plan of this host."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Annotated

import msgspec
import typer

from donjon.cli.common import JsonOption, workspace
from donjon.cli.output import printable, say
from donjon.cli.plan_files import PlanOption, plan_path
from donjon.core.clock import iso, system_clock
from donjon.core.secrecy import redacted
from donjon.core.units import parse_duration

EPILOG = """\b
Examples:
  donjon run                            the plan in ./donjon.yaml, until Ctrl-C
  donjon run --at-once 4 --grace 30m
  donjon run --systemd > /etc/systemd/system/donjon.service

\b
JSON: one object a line on standard error: {"time", "event", ...}. Events are ready, plan, plan-refused,
started, done, failed, interrupted, skipped, crashed, released, draining, interrupting, killing, error,
stopped."""

_END = (signal.SIGTERM, signal.SIGINT)


def run(
    plan: PlanOption = None,
    at_once: Annotated[
        int, typer.Option("--at-once", metavar="N", min=1, max=64, help="How many workloads run at a time.")
    ] = 1,
    grace: Annotated[
        str, typer.Option("--grace", metavar="TIME", help="How long runs may go on after SIGTERM.")
    ] = "10m",
    systemd: Annotated[bool, typer.Option("--systemd", help="Print a unit for systemd, and end.")] = False,
    json: JsonOption = False,
) -> int:
    """Run the workloads of the plan whenever they are due, until SIGTERM or Ctrl-C.

    Each run has a process of its own. What was missed while the machine slept or was off is made up for
    once. After SIGTERM no run starts; those under way may go on for --grace, then are interrupted where
    nothing is half done. A second SIGTERM interrupts them at once, a third one kills them. The plan is read
    again when its file changes, and on SIGHUP; one with errors is refused, and the one before stays in
    force.
    """
    if systemd:
        from donjon.cli.unit import unit_text

        say(unit_text().rstrip())
        return 0
    from donjon.app.catalog.opening import open_catalog
    from donjon.app.plans.claims import Claims
    from donjon.app.plans.scheduler import Scheduler, only_one
    from donjon.app.plans.watch import PlanWatch
    from donjon.scheduling.loop import Loop, Surroundings
    from donjon.scheduling.service import notify

    home, grace_s, journal = workspace().home, parse_duration(grace), Log(json=json)
    with only_one(home.folder), _signals() as heard:
        watch = PlanWatch(home, plan_path(home, plan), journal)
        catalog = open_catalog(home, os.environ)
        scheduler = Scheduler(Claims(home.folder), watch, catalog, environment=os.environ, journal=journal)
        scheduler.release_left(wait=True)

        def beat() -> None:
            scheduler.reload = heard.take_hangup() or scheduler.reload
            notify(os.environ, "WATCHDOG=1")

        notify(os.environ, "READY=1", f"STATUS=Running the plan {watch.plan.name}")
        journal("ready", plan=watch.plan.name, workloads=len(watch.plan.workloads), process=os.getpid())
        around = Surroundings(
            agenda=scheduler.agenda,
            start=scheduler.start,
            ended=scheduler.ended,
            clock=system_clock,
            wait=heard.wait,
            beat=beat,
            asked=heard.stops,
            journal=journal,
        )
        heard.on_stop = lambda: notify(os.environ, "STOPPING=1", "STATUS=Waiting for what runs")
        Loop(around, at_once=at_once, grace_s=grace_s).run()
        journal("stopped")
    return 0


@dataclass(frozen=True, slots=True)
class Log:
    """Writes what happens to standard error, a line each."""

    json: bool

    def __call__(self, event: str, /, **fields: object) -> None:
        """See ``Journal``."""
        time = iso(system_clock())
        if self.json:
            line = msgspec.json.encode({"time": time, "event": event} | fields).decode()
        else:
            line = " ".join([time, event, *(f"{name}={_value(value)}" for name, value in fields.items())])
        sys.stderr.write(printable(redacted(line)) + "\n")
        sys.stderr.flush()


def _value(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if text and not set(text) & set(' "\n\t') else msgspec.json.encode(text).decode()


class _Heard:
    """Counts signals, and wakes whoever waits."""

    def __init__(self, wakeup: int) -> None:
        self.on_stop: Callable[[], object] = lambda: None
        self._wakeup = wakeup
        self._stops = 0
        self._hangup = False

    def stops(self) -> int:
        """How often somebody wanted this to end."""
        return self._stops

    def take_hangup(self) -> bool:
        """Whether somebody wanted the plan to be read again, since the last time this was asked."""
        heard, self._hangup = self._hangup, False
        return heard

    def wait(self, seconds: float) -> None:
        """Until a signal comes, or the end of a child, or the time is over."""
        if select.select([self._wakeup], [], [], max(0.0, seconds))[0]:
            os.read(self._wakeup, 4096)

    def hear(self, number: int, _: FrameType | None) -> None:
        """The handler of all signals."""
        if number == signal.SIGHUP:
            self._hangup = True
        elif number in _END:
            self._stops += 1
            if self._stops == 1:
                self.on_stop()


@contextmanager
def _signals() -> Iterator[_Heard]:
    receiver, sender = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    heard = _Heard(receiver)
    numbers = [*_END, signal.SIGHUP, signal.SIGCHLD]
    before = {number: signal.signal(number, heard.hear) for number in numbers}
    old = signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    try:
        yield heard
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(receiver)
        os.close(sender)
