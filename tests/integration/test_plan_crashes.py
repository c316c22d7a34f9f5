"""A run is killed at each of its steps: nothing is lost, nothing stays at rest, and the next run mends it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from donjon.app.plans import hooks
from donjon.app.plans import runs as plan_runs
from donjon.app.plans.claims import HeldFile
from donjon.app.plans.runs import release_all, run_workload
from donjon.catalog import points, runs
from donjon.catalog.database import Catalog
from donjon.catalog.runs import RunState
from donjon.stores.local import LocalStore
from tests.integration.cli import Donjon
from tests.integration.planned import Planned

#: All steps take minutes; DONJON_EVERY_STEP=1 tries them.
EVERY = int(os.environ.get("DONJON_EVERY_STEP", "7"))


@pytest.fixture
def planned(donjon: Donjon) -> Planned:
    host = Planned(donjon.without_kit())
    host.write({"web": {"hooks": host.hooks("web")}}, verify={"every": "0s"})
    return host


@dataclass
class Countdown:
    """Kills this process at the n-th event, before or after what it is about."""

    left: int
    seen: list[str] = field(default_factory=list)

    def event(self, what: str) -> None:
        self.seen.append(what)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            self.event(f"before {name}")
            result = real(*arguments, **named)
            self.event(f"after {name}")
            return result

        patch.setattr(owner, name, counted)

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        self.around(patch, Catalog, "write")
        self.around(patch, HeldFile, "write")
        self.around(patch, HeldFile, "clear")
        self.around(patch, hooks, "run_hook")
        self.around(patch, LocalStore, "put")
        self.around(patch, plan_runs, "make_copy")


def _in_child(work: Callable[[], None]) -> int:
    """Carry out something in a child of its own; how it ended, as a negative signal or an exit code."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _count(planned: Planned) -> int:
    with pytest.MonkeyPatch.context() as patch:
        countdown = Countdown(0)
        countdown.watch(patch)
        run_workload(planned.running(), "web")
    assert {"before run_hook", "after put", "before make_copy", "after write"} <= set(countdown.seen)
    return len(countdown.seen)


def test_a_run_may_be_killed_at_every_step(planned: Planned) -> None:
    total = _count(planned)
    assert total > 40
    for step in range(1, total + 1, EVERY):
        planned.fill("web", seed=100 + step)

        def die(step: int = step) -> None:
            with pytest.MonkeyPatch.context() as patch:
                Countdown(step).watch(patch)
                run_workload(planned.running(), "web")

        code = _in_child(die)
        if code == 0:  # an event fewer this time: the second run of a workload has less to do
            continue
        assert code == -signal.SIGKILL, step
        _check_mended(planned)
    catalog = planned.catalog()
    ended = {run.state for run in runs.newest(catalog, 1000)}
    assert ended == {RunState.DONE, RunState.INTERRUPTED}
    live = planned.facts(catalog)
    planned.rebuild(catalog)
    rebuilt = planned.facts(catalog)
    assert rebuilt["copies"] == live["copies"]
    assert rebuilt["evidence"] == live["evidence"]
    known = [(row.point_id, row.workload, row.time, row.manifest) for row in live["points"]]
    assert known == [(row.point_id, row.workload, row.time, row.manifest) for row in rebuilt["points"]]
    assert planned.donjon.json("verify", "--data", "100", "--kit", planned.donjon.kit)["ok"]


def _check_mended(planned: Planned) -> None:
    """After a start, as the service makes it, nothing is at rest; after a run, everything is in order."""
    running = planned.running()
    release_all(running)
    assert not planned.frozen("web").exists()
    assert not running.claims.left()
    log = planned.log("web")
    assert log[-1:] in ([], ["after"])
    done = run_workload(running, "web")
    assert done.state is RunState.DONE, done.error
    catalog = running.catalog
    newest = points.newest_point(catalog, "web")
    assert newest is not None
    there = {copy.place for copy in points.list_copies(catalog) if copy.point_id == newest.point_id}
    assert there == {planned.donjon.vault.as_uri(), planned.copy.as_uri()}
    assert all(point.workload == "web" for point in points.list_points(catalog))
    assert not any(run.state is RunState.RUNNING for run in runs.newest(catalog, 1000))
