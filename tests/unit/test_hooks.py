"""Hooks: real processes that fail, hang, ignore signals and leave others behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from donjon.app.plans import hooks as hooks_module
from donjon.app.plans.claims import Claims, Held, HeldFile, started
from donjon.app.plans.hooks import OUTPUT_BYTES, Quiescing, hook_environment, release_left, run_hook
from donjon.core.errors import DonjonError, Interrupted, Refused, SourceFailed
from donjon.core.events import never_stop
from donjon.plan.model import Hooks

SEEN = {"PATH": os.environ["PATH"]}


def sh(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks_module, "_TERM_S", 0.2)


class App:
    """An application with hooks that freeze and thaw it; ``log`` is what happened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frozen = folder / "frozen"
        self.held = HeldFile(folder / "held" / "p" / "w.json")
        self.notes: list[str] = []

    def before(self, more: str = "") -> tuple[str, ...]:
        return sh(f"echo before >> {self.folder}/log; touch {self.frozen}; {more}")

    def after(self, more: str = "") -> tuple[str, ...]:
        return sh(f"echo after >> {self.folder}/log; rm -f {self.frozen}; {more}")

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().split() if path.exists() else []

    def quiesce(
        self,
        before: tuple[str, ...] | None = None,
        after: tuple[str, ...] | None = None,
        timeout: int = 20,
    ) -> Quiescing:
        hooks = Hooks(before=before or self.before(), after=after or self.after(), timeout=timeout)
        return Quiescing(
            hooks,
            self.held,
            ("p", "w"),
            environment={"HOME": "/root", "SECRET_KEY": "geheim"},
            stop=never_stop,
            clock=lambda: 1000,
            notes=self.notes,
        )


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(tmp_path)


# -- one hook ----------------------------------------------------------------------------------------


def test_a_hook_runs_without_a_shell_and_sees_nothing_of_ours(app: App, tmp_path: Path) -> None:
    environment = hook_environment(
        "w", "before", {"HOME": "/home/x", "AWS_SECRET_ACCESS_KEY": "s", "TZ": "CET"}
    )
    end = run_hook(("env",), environment=environment, timeout_s=20)
    assert end.fault == ""
    names = {line.split("=")[0] for line in end.output.splitlines()}
    assert names == {"PATH", "LANG", "DONJON_WORKLOAD", "DONJON_HOOK", "HOME", "TZ"}
    end = run_hook(("echo", "$HOME; touch", str(tmp_path / "x")), environment=SEEN, timeout_s=20)
    assert end.output == f"$HOME; touch {tmp_path / 'x'}"
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (sh("exit 7"), "ended with 7"),
        (sh("kill -9 $$"), "was killed by signal 9"),
        (("/nonexistent/hook",), "cannot be started: No such file or directory"),
        (("/etc/passwd",), "cannot be started: Permission denied"),
    ],
)
def test_how_a_hook_failed_is_told(command: tuple[str, ...], fault: str) -> None:
    assert run_hook(command, environment=SEEN, timeout_s=20).fault == fault


def test_output_is_bounded_and_never_blocks_the_hook() -> None:
    end = run_hook(sh("yes x | head -c 3000000; echo the end"), environment=SEEN, timeout_s=20)
    assert end.fault == ""
    assert len(end.output) <= OUTPUT_BYTES
    assert end.output.endswith("the end")


def test_output_that_is_no_text_and_secrets_in_it_are_made_harmless() -> None:
    end = run_hook(sh(r"printf '\377 password=hunter2\n'"), environment=SEEN, timeout_s=20)
    assert "hunter2" not in end.output
    assert "\\xff" in end.output


def test_a_hook_that_never_ends_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; (trap '' TERM; echo $$ > {pids}; sleep 1000) & sleep 1000"
    begun = time.monotonic()
    end = run_hook(sh(script), environment=SEEN, timeout_s=0.3)
    assert time.monotonic() - begun < 5
    assert end.fault == "did not end within 0 s and was killed"
    assert _nobody_has(b"sleep\x001000\x00")


def test_a_hook_that_ends_on_sigterm_may_clean_up(tmp_path: Path) -> None:
    script = f"trap 'touch {tmp_path}/cleaned; exit 0' TERM; while :; do sleep 0.01; done"
    assert run_hook(sh(script), environment=SEEN, timeout_s=0.3).fault
    assert (tmp_path / "cleaned").exists()


def test_what_a_hook_leaves_in_the_background_holds_nobody_up_and_goes_on(tmp_path: Path) -> None:
    script = f"sleep 300 & echo $! > {tmp_path}/pid; echo done"
    begun = time.monotonic()
    end = run_hook(sh(script), environment=SEEN, timeout_s=20)
    assert (end.fault, end.output) == ("", "done")
    assert time.monotonic() - begun < 5
    pid = int((tmp_path / "pid").read_text())
    assert started(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_hook_in_the_way_of_a_stop_is_killed(tmp_path: Path) -> None:
    asked = threading.Event()

    def stop() -> None:
        if asked.is_set():
            raise Interrupted

    threading.Timer(0.2, asked.set).start()
    with pytest.raises(Interrupted):
        run_hook(sh("exec sleep 2000"), environment=SEEN, timeout_s=20, stop=stop)
    assert _nobody_has(b"sleep\x002000\x00")


def _nobody_has(command: bytes) -> bool:
    """Whether it is gone: soon, for a process that was killed dies when the processor has time for it."""
    deadline = time.monotonic() + 5
    while _somebody_has(command):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _somebody_has(command: bytes) -> bool:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return any(command in line for line in found)


# -- both hooks --------------------------------------------------------------------------------------


def test_it_is_at_rest_inside_and_released_after(app: App) -> None:
    quiesce = app.quiesce()
    with quiesce():
        assert app.frozen.exists()
        held = app.held.read()
        assert held is not None
        assert held.after[:2] == ("/bin/sh", "-c")
        assert held.hook
    assert not app.frozen.exists()
    assert app.held.read() is None
    assert app.log == ["before", "after"]


def test_without_hooks_nothing_is_written() -> None:
    quiesce = Quiescing(
        None,
        HeldFile(Path("/nonexistent/held")),
        ("p", "w"),
        environment={},
        stop=lambda: None,
        clock=lambda: 1,
        notes=[],
    )
    with quiesce():
        pass


@pytest.mark.parametrize(
    "error", [SourceFailed("x"), Interrupted(), KeyboardInterrupt(), ZeroDivisionError()]
)
def test_it_is_released_whatever_happens(app: App, error: BaseException) -> None:
    with pytest.raises(type(error)), app.quiesce()():
        raise error
    assert app.log == ["before", "after"]
    assert app.held.read() is None


def test_a_before_that_fails_is_followed_by_after_and_the_body_never_runs(app: App) -> None:
    ran = []
    with (
        pytest.raises(SourceFailed, match="ended with 3") as caught,
        app.quiesce(app.before("echo no; exit 3"))(),
    ):
        ran.append(1)
    assert ran == []
    assert caught.value.retryable
    assert "no" in caught.value.hint
    assert app.log == ["before", "after"]
    assert app.held.read() is None
    assert any("hook before: no" in note for note in app.notes)


def test_a_before_that_hangs_is_followed_by_after(app: App) -> None:
    with (
        pytest.raises(SourceFailed, match="did not end within 1 s"),
        app.quiesce(app.before("sleep 1000"), timeout=1)(),
    ):
        raise AssertionError
    assert app.log == ["before", "after"]
    assert not app.frozen.exists()


def test_what_takes_longer_than_the_timeout_is_released_meanwhile_and_fails(app: App) -> None:
    quiesce = app.quiesce(timeout=1)
    seen = []

    def back_up() -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            seen.append(app.frozen.exists())
            time.sleep(0.02)
            if not seen[-1]:
                quiesce.check()  # as a backup does all the time

    with pytest.raises(SourceFailed, match="after 1 s at rest"), quiesce():
        back_up()
    assert seen[-1] is False
    assert app.log == ["before", "after"]
    assert app.held.read() is None


def test_a_body_that_never_checks_fails_at_its_end(app: App) -> None:
    with pytest.raises(SourceFailed, match="at rest"), app.quiesce(timeout=1)():
        time.sleep(1.3)
    assert app.log == ["before", "after"]


def test_an_after_that_fails_is_told_and_stays_written_down(app: App) -> None:
    with pytest.raises(SourceFailed, match="hook after"), app.quiesce(after=app.after("exit 1"))():
        pass
    held = app.held.read()
    assert held is not None
    app.held.write(Held(held.plan, held.workload, app.after(), held.timeout_s, held.since))
    assert release_left(app.held, {}) is not None
    assert app.held.read() is None


def test_an_after_that_fails_is_not_hidden_by_another_failure(app: App) -> None:
    with pytest.raises(SourceFailed, match="the body"), app.quiesce(after=app.after("exit 1"))():
        raise SourceFailed("the body")
    assert any("hook after" in note for note in app.notes)
    assert app.held.read() is not None


def test_an_after_that_hangs_is_killed_and_stays_written_down(app: App) -> None:
    quiesce = app.quiesce(after=sh("sleep 1000"), timeout=1)
    with pytest.raises(SourceFailed, match="did not end"), quiesce():
        pass
    assert app.held.read() is not None


def test_nothing_is_brought_to_rest_that_could_not_be_written_down(app: App) -> None:
    (app.folder / "held").write_text("in the way of the folder")
    with pytest.raises(DonjonError), app.quiesce()():
        raise AssertionError
    assert app.log == []


# -- after kill -9 -----------------------------------------------------------------------------------

_DIES = """
import os, signal, sys
from pathlib import Path
from tests.unit.test_hooks import App
app = App(Path(sys.argv[1]))
with app.quiesce(before=tuple(sys.argv[2:]) or None)():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _die(app: App, *before: str) -> subprocess.Popen[bytes]:
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen([sys.executable, "-c", _DIES, app.folder, *before], cwd=root)


def test_what_a_killed_run_held_is_released_at_the_next_start(app: App) -> None:
    assert _die(app).wait(60) == -signal.SIGKILL
    assert app.frozen.exists()
    told = release_left(app.held, {})
    assert told is not None
    assert "w: a killed run" in told
    assert not app.frozen.exists()
    assert release_left(app.held, {}) is None
    assert app.log == ["before", "after"]


def test_a_before_that_outlives_its_run_cannot_freeze_afterwards(app: App) -> None:
    slow = sh(f"sleep 4; touch {app.frozen}")
    process = _die(app, *slow)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        held = app.held.read() if app.held.path.exists() else None
        if held and held.hook:
            break
        time.sleep(0.02)
    assert held is not None
    process.kill()
    process.wait()
    assert started(held.hook)
    release_left(app.held, {})
    time.sleep(0.1)
    assert _nobody_has(b"sleep\x004\x00")
    assert not app.frozen.exists()


def test_a_release_that_fails_is_tried_again_at_each_start(app: App) -> None:
    app.held.write(Held("p", "w", sh("exit 1"), 20, 1))
    for _ in range(2):
        with pytest.raises(SourceFailed, match="left at rest") as caught:
            release_left(app.held, {})
        assert str(app.held.path) in caught.value.hint
    app.held.path.write_bytes(b"{broken")
    with pytest.raises(DonjonError, match="cannot be read"):
        release_left(app.held, {})


def test_another_process_with_the_same_number_is_left_alone(app: App) -> None:
    other = subprocess.Popen(["sleep", "100"], start_new_session=True)
    try:
        app.held.write(Held("p", "w", app.after(), 20, 1, other.pid, "1"))
        release_left(app.held, {})
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


# -- claims ------------------------------------------------------------------------------------------


def test_a_workload_has_one_runner_at_a_time_whatever_the_process(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    assert not claims.is_running("p", "w")
    with claims.lock("p", "w"):
        assert claims.is_running("p", "w")
        assert not claims.is_running("p", "other")
        with pytest.raises(Refused, match=str(os.getpid())), claims.lock("p", "w"):
            raise AssertionError
        with claims.lock("other", "w"):
            pass
    assert not claims.is_running("p", "w")


def test_looking_never_keeps_a_runner_from_its_lock(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            claims.is_running("p", "w")

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            with claims.lock("p", "w"):
                pass
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path; from donjon.app.plans.claims import Claims\n"
        "with Claims(Path(sys.argv[1])).lock('p', 'w'):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -signal.SIGKILL
    with Claims(tmp_path).lock("p", "w"):
        pass
