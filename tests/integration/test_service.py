"""`donjon run` in real processes: killed, stopped, with a plan that changes, and beside other runners."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from donjon.catalog import points, runs
from donjon.catalog.runs import RunState
from tests.integration.cli import Donjon
from tests.integration.planned import Planned

SOON = {"every": "1m"}
#: The clock some minutes later, as after a sleep.
LATER = {"FAKETIME": "+5m", "NO_FAKE_STAT": "1"}
#: The command would stand between us and the service: it waits for it, and signals reach the command alone.
FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@pytest.fixture
def planned(donjon: Donjon) -> Planned:
    return Planned(donjon.without_kit())


@dataclass
class Service:
    """A running `donjon run`, and what it tells."""

    process: subprocess.Popen[bytes]
    events: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.events.append(json.loads(line) if line.startswith(b"{") else {"event": "?", "line": line})

    def named(self, event: str, workload: str | None = None) -> list[dict[str, Any]]:
        return [
            one
            for one in list(self.events)
            if one["event"] == event and (workload is None or one.get("workload") == workload)
        ]

    def wait_for(self, event: str, workload: str | None = None) -> dict[str, Any]:
        wait_until(lambda: self.named(event, workload) or self.process.poll() is not None)
        assert self.named(event, workload), self.events
        return self.named(event, workload)[-1]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(120)
        self.reader.join(30)
        return code


@contextlib.contextmanager
def service(planned: Planned, *options: str, environment: dict[str, str] | None = None) -> Iterator[Service]:
    process = subprocess.Popen(
        [planned.donjon.program, "run", "--json", *options],
        env=planned.donjon.environment() | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    made = Service(process)
    try:
        yield made
    finally:
        made.end(signal.SIGKILL)
        for child in children_of(planned):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def children_of(planned: Planned) -> list[int]:
    """Processes that run workloads of this host."""
    wanted = str(planned.donjon.home).encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"\0plan\0run\0" in (line := path.read_bytes()) and wanted in line:
                found.append(int(path.parent.name))
    return found


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.02)


def test_what_is_due_is_run_and_a_second_service_is_refused(planned: Planned) -> None:
    planned.write({"web": {"schedule": SOON}, "shop": {"schedule": SOON}, "never": {}})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = str(planned.folder / "notify")
        manager.bind(address)
        manager.settimeout(60)
        seen = {"NOTIFY_SOCKET": address}
        with service(planned, "--at-once", "2", environment=seen) as one:
            assert manager.recv(200).startswith(b"READY=1\n")
            assert manager.recv(200) == b"WATCHDOG=1"
            for workload in ("web", "shop"):
                assert one.wait_for("done", workload)["bytes"] == 120_000
            assert planned.donjon.run("run", code=1).stderr.count(b"running already")
            assert one.end() == 0
            assert one.events[-1]["event"] == "stopped"
        told = manager.recv(200)
        while told == b"WATCHDOG=1":
            told = manager.recv(200)
        assert told.startswith(b"STOPPING=1\n")
    assert not one.named("started", "never")
    status = planned.donjon.json("plan", "status")
    assert [one["state"] for one in status["workloads"]] == ["done", "done", None]
    assert planned.donjon.text("run", "--systemd").count(f"ExecStart={planned.donjon.program} run") == 1


def test_a_service_that_is_killed_loses_nothing(planned: Planned) -> None:
    gate = planned.folder / "gate"
    os.mkfifo(gate)
    rules: dict[str, dict[str, Any]] = {
        "web": {"schedule": SOON, "hooks": planned.hooks("web", before="sleep 1000; ")},
        "shop": {"schedule": SOON, "hooks": planned.hooks("shop", before=f"read line < {gate}; ")},
        "plain": {"schedule": SOON},
    }
    planned.write(rules)
    with service(planned, "--at-once", "3") as one:
        wait_until(lambda: planned.frozen("web").exists() and planned.frozen("shop").exists())
        one.wait_for("done", "plain")
        one.end(signal.SIGKILL)
        # One run is killed as well, as the crash of a machine would; the other goes on without the service.
        kill(planned, "web")
        gate.write_text("go\n")
        wait_until(lambda: not children_of(planned))
    assert planned.frozen("web").exists()
    assert planned.log("shop") == ["before", "after"]
    assert points.newest_point(planned.catalog(), "shop") is not None
    rules["web"]["hooks"] = planned.hooks("web")
    rules["shop"]["hooks"] = planned.hooks("shop")
    planned.write(rules)
    with service(planned, "--at-once", "3", environment=LATER | {"LD_PRELOAD": str(FAKETIME[0])}) as two:
        two.wait_for("ready")
        assert [one["workload"] for one in two.named("released")] == ["web"]
        assert not planned.frozen("web").exists()
        for workload in rules:
            two.wait_for("done", workload)
        assert two.end() == 0
    for workload in rules:
        states = [run.state for run in runs.recent(planned.catalog(), "tests", workload)]
        assert states[0] is RunState.DONE
        assert RunState.RUNNING not in states
        assert not planned.frozen(workload).exists()
    assert planned.log("web") == ["before", "after", "before", "after"]


def kill(planned: Planned, workload: str) -> None:
    """Kill the run of a workload."""
    name = b"\0" + workload.encode() + b"\0"
    for process in children_of(planned):
        if name in Path(f"/proc/{process}/cmdline").read_bytes():
            os.kill(process, signal.SIGKILL)


def test_a_stop_drains_and_then_interrupts(planned: Planned) -> None:
    planned.write({"web": {"schedule": SOON, "hooks": planned.hooks("web", before="sleep 1000; ")}})
    with service(planned, "--grace", "1s") as one:
        wait_until(planned.frozen("web").exists)
        assert one.end() == 0
    assert [event["event"] for event in one.events][-4:] == [
        "draining",
        "interrupting",
        "crashed",
        "stopped",
    ] or [event["event"] for event in one.events][-3:] == ["interrupting", "interrupted", "stopped"]
    assert not planned.frozen("web").exists()
    assert planned.log("web") == ["before", "after"]
    (run,) = runs.newest(planned.catalog(), 5)
    assert run.state is RunState.INTERRUPTED


def test_a_plan_that_changes_is_taken_and_one_with_errors_is_not(planned: Planned) -> None:
    planned.write({"web": {"schedule": {"every": "1h"}}})
    with service(planned) as one:
        one.wait_for("done", "web")
        right = planned.file.read_text()
        planned.file.write_text(right.replace('"vault": "main"', '"vault": "mian"'))
        one.process.send_signal(signal.SIGHUP)
        refused = one.wait_for("plan-refused")
        assert "mian" in refused["message"]
        assert str(planned.file) in refused["message"]
        planned.write({"web": {"schedule": {"every": "1h"}}, "shop": {"schedule": SOON}})
        one.process.send_signal(signal.SIGHUP)
        one.wait_for("plan")
        one.wait_for("done", "shop")
        planned.file.unlink()
        one.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(one.named("plan-refused")) == 2)
        assert one.end() == 0
    planned.file.write_text("version: 1\n")
    planned.file.chmod(0o600)
    with service(planned) as two:
        assert "name" in two.wait_for("plan-refused")["message"]
        assert two.wait_for("ready")["workloads"] == 2
        assert two.end() == 0


def test_without_any_plan_the_service_does_not_start(planned: Planned) -> None:
    done = planned.donjon.run("run", code=2)
    assert b"there is no plan" in done.stderr
