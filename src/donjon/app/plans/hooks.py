"""The hooks of a workload: ``before`` brings its application to rest, and ``after`` always releases it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from donjon.app.plans.claims import Held, HeldFile, started
from donjon.core.clock import Clock
from donjon.core.errors import SourceFailed
from donjon.core.events import StopCheck, never_stop
from donjon.core.secrecy import redacted
from donjon.plan.model import Hooks

#: Of what a hook says, the end is kept.
OUTPUT_BYTES: Final = 4096
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_POLL_S: Final = 0.1
#: How long a hook has to end by itself after SIGTERM.
_TERM_S: Final = 2.0
_READ_BYTES: Final = 65_536
#: More than a pipe holds.
_LAST_READS: Final = 32


@dataclass(frozen=True, slots=True)
class HookEnd:
    """How a hook ended: ``fault`` says what was wrong, or is empty; ``output`` is the end of what it said."""

    fault: str
    output: str


def run_hook(
    command: tuple[str, ...],
    *,
    environment: Mapping[str, str],
    timeout_s: float,
    stop: StopCheck = never_stop,
    begun: Callable[[int], None] = lambda _: None,
) -> HookEnd:
    """Run a command without a shell, in a process group of its own, which is killed after ``timeout_s``.

    ``begun`` is told the number of its process. Raises what ``stop`` raises, after killing it.
    """
    try:
        process = subprocess.Popen(  # noqa: S603  (the plan of the operator names it)
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        return HookEnd(f"cannot be started: {error.strerror}", "")
    assert process.stdout is not None  # noqa: S101  (it is a pipe)
    ended = False
    try:
        begun(process.pid)
        output, ended = _listen(process, process.stdout.fileno(), time.monotonic() + timeout_s, stop)
    finally:
        if not ended:
            kill_group(process.pid)
            process.wait()
        process.stdout.close()
    said = redacted(output.decode(errors="backslashreplace")).strip()
    if not ended:
        return HookEnd(f"did not end within {timeout_s:.0f} s and was killed", said)
    code = process.returncode
    fault = "" if code == 0 else f"ended with {code}" if code > 0 else f"was killed by signal {-code}"
    return HookEnd(fault, said)


def _listen(
    process: subprocess.Popen[bytes], pipe: int, deadline: float, stop: StopCheck
) -> tuple[bytes, bool]:
    """The end of what it says, and whether it ended in time.

    What it leaves running in the background may keep the pipe, so its own end counts, not that of the pipe.
    """
    os.set_blocking(pipe, False)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    output, is_open = b"", True
    while process.poll() is None:
        stop()
        if time.monotonic() >= deadline:
            return output, False
        if not is_open:
            time.sleep(_POLL_S / 10)
        elif poll.poll(_POLL_S * 1000):
            data = _read(pipe)
            is_open = data != b""
            output = (output + (data or b""))[-OUTPUT_BYTES:]
    for _ in range(_LAST_READS):
        output = (output + (data := _read(pipe) or b""))[-OUTPUT_BYTES:]
        if not data:
            break
    return output, True


def _read(pipe: int) -> bytes | None:
    """What can be read now, empty at the end, None for nothing yet."""
    try:
        return os.read(pipe, _READ_BYTES)
    except BlockingIOError:
        return None


def kill_group(leader: int) -> None:
    """End a process with its group: SIGTERM, and SIGKILL for what is left soon after."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGTERM)
        deadline = time.monotonic() + _TERM_S
        while time.monotonic() < deadline:
            os.killpg(leader, 0)  # raises once nobody is left
            with contextlib.suppress(ChildProcessError):
                os.waitpid(leader, os.WNOHANG)
            time.sleep(0.02)
        os.killpg(leader, signal.SIGKILL)


def hook_environment(workload: str, which: str, mine: Mapping[str, str]) -> dict[str, str]:
    """What a hook sees: nothing of ours but who it runs for, as our environment may hold secrets."""
    kept = {name: mine[name] for name in ("HOME", "TZ") if name in mine}
    return {"PATH": _PATH, "LANG": "C.UTF-8", "DONJON_WORKLOAD": workload, "DONJON_HOOK": which} | kept


class Quiescing:
    """Keeps an application at rest for at most as long as its hooks say, and always releases it.

    ``notes`` gets what the hooks said. The time is kept by a thread of its own, for whoever holds the
    application may be waiting for something else.
    """

    def __init__(
        self,
        hooks: Hooks | None,
        held_file: HeldFile,
        who: tuple[str, str],
        *,
        environment: Mapping[str, str],
        stop: StopCheck,
        clock: Clock,
        notes: list[str],
    ) -> None:
        """``who`` are plan and workload; ``environment`` is that of this process."""
        self._hooks = hooks
        self._file = held_file
        self._who = who
        self._environment = environment
        self._stop = stop
        self._clock = clock
        self._notes = notes
        self._mutex = threading.Lock()
        self._held: Held | None = None
        self._fault: SourceFailed | None = None

    def check(self) -> None:
        """Raises ``SourceFailed`` if the time was up before all was done, and what ``stop`` raises."""
        if self._fault is not None:
            raise self._fault
        self._stop()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """At rest while the body runs. Raises ``SourceFailed`` if a hook fails or the time is up."""
        hooks = self._hooks
        if hooks is None or (hooks.before is None and hooks.after is None):
            yield
            return
        plan, workload = self._who
        self._held = Held(plan, workload, hooks.after or (), hooks.timeout, self._clock())
        self._file.write(self._held)
        over = threading.Event()
        watchdog = threading.Thread(target=self._watch, args=(over, hooks.timeout), name="donjon-watchdog")
        try:
            if hooks.before is not None:
                self._bring_to_rest(hooks.before, hooks.timeout)
            watchdog.start()
            yield
        finally:
            over.set()
            if watchdog.is_alive():
                watchdog.join()
            self._release()
        if self._fault is not None:
            raise self._fault

    def _bring_to_rest(self, command: tuple[str, ...], timeout_s: int) -> None:
        def begun(process: int) -> None:
            assert self._held is not None  # noqa: S101  (set before)
            self._held = replace_hook(self._held, process)
            self._file.write(self._held)

        seen = hook_environment(self._who[1], "before", self._environment)
        end = run_hook(command, environment=seen, timeout_s=timeout_s, stop=self._stop, begun=begun)
        self._note("before", end)
        if end.fault:
            msg = f"{self._who[1]}: the hook before ({command[0]}) {end.fault}"
            raise SourceFailed(msg, hint=_hint(end), retryable=True)

    def _watch(self, over: threading.Event, timeout_s: int) -> None:
        if over.wait(timeout_s):
            return
        msg = f"{self._who[1]}: was released after {timeout_s} s at rest, before all was done"
        hint = "Give the hooks a longer timeout, or take a snapshot, so that it rests for a moment only."
        self._fault = SourceFailed(msg, hint=hint, retryable=True)
        self._release()

    def _release(self) -> None:
        with self._mutex:
            if self._held is None:
                return
            end = release(self._held, self._environment)
            self._note("after", end)
            if end.fault:  # it stays written down, and the next start tries again
                msg = f"{self._who[1]}: the hook after ({self._held.after[0]}) {end.fault}"
                hint = f"Release the application by hand if it still waits. {_hint(end)}"
                self._fault = SourceFailed(msg, hint=hint, retryable=True)
                self._notes.append(f"{msg}. {hint}")
            else:
                self._file.clear()
            self._held = None

    def _note(self, which: str, end: HookEnd) -> None:
        if end.output:
            self._notes.append(f"hook {which}: {end.output}")


def release(held: Held, environment: Mapping[str, str]) -> HookEnd:
    """Run ``after`` of what is held."""
    if not held.after:
        return HookEnd("", "")
    seen = hook_environment(held.workload, "after", environment)
    return run_hook(held.after, environment=seen, timeout_s=held.timeout_s)


def release_left(held_file: HeldFile, environment: Mapping[str, str]) -> str | None:
    """Release what a run left that was killed; what was done, for people, or None for nothing.

    Raises ``SourceFailed`` if that fails; then it is tried again at the next start.
    """
    held = held_file.read()
    if held is None:
        return None
    if held.hook and held.hook_started and started(held.hook) == held.hook_started:
        kill_group(held.hook)  # it would bring the application to rest after that was released
    end = release(held, environment)
    if end.fault:
        msg = f"{held.workload}: was left at rest by a killed run, and the hook after {end.fault}"
        hint = f"Release it by hand ({held.after[0]}), then remove {held_file.path}. {_hint(end)}"
        raise SourceFailed(msg, hint=hint, retryable=True)
    held_file.clear()
    said = f": {end.output}" if end.output else ""
    return f"{held.workload}: a killed run had left it at rest; the hook after has released it{said}"


def replace_hook(held: Held, process: int) -> Held:
    """The same with the process of ``before``."""
    return Held(held.plan, held.workload, held.after, held.timeout_s, held.since, process, started(process))


def _hint(end: HookEnd) -> str:
    lines = end.output.splitlines()
    return f"It said: {lines[-1][:200]}" if lines else "It said nothing."
