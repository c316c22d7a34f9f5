"""What a command writes to its standard output, as a stream that counts only if the command succeeds."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from donjon.core.errors import SourceFailed
from donjon.core.events import StopCheck, never_stop
from donjon.core.units import MIB

#: How much of what a command says on its standard error is kept for messages: its end.
SAID_BYTES = 2_000
_ROUND_S = 0.5
_BRIEF_S = 0.05
_PIPE_BYTES = 1 * MIB
_GRACE_S = 5.0


class CommandStream:
    """A ``ByteStream`` of the standard output of a command, which starts when it is first read.

    No shell is used. ``what`` names it in messages. The end of the output is that of the stream only once it
    ended with exit code 0. Reading raises ``SourceFailed`` if it cannot be started, ends otherwise, or takes
    longer than ``timeout_s`` in all, and whatever ``stop`` raises. ``close`` ends it and all that it started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        what: str,
        timeout_s: float,
        environment: Mapping[str, str] | None = None,
        stop: StopCheck = never_stop,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = list(command)
        self._what = what
        self._timeout_s = timeout_s
        self._environment = environment
        self._stop = stop
        self._monotonic = monotonic
        self._deadline = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._poll = select.poll()
        self._said = b""
        self._is_over = False

    def readinto(self, buffer: memoryview, /) -> int:
        """The next bytes; 0 once the command has ended well. See the class for what it raises."""
        if self._is_over or not len(buffer):
            return 0
        process = self._process or self._start()
        assert process.stdout is not None  # noqa: S101  (a pipe, see _start)
        output = process.stdout.fileno()
        while True:
            if output in self._wait():
                count = os.readv(output, [buffer])
                if not count:
                    self._poll.unregister(output)
                    self._end(process)
                return count

    def close(self) -> None:
        """End the command and all that it started, if it still runs. Harmless afterwards."""
        process, self._process = self._process, None
        self._is_over = True
        if process is None:
            return
        if process.returncode != 0:
            self._end_group(process)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    @staticmethod
    def _end_group(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            process = subprocess.Popen(  # noqa: S603 - what the plan says, without a shell
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=self._environment,
                start_new_session=True,  # so that all of it can be ended, and Ctrl-C is for Donjon alone
            )
        except (OSError, ValueError) as error:
            self._is_over = True
            reason = getattr(error, "strerror", None) or str(error)
            msg = f"{self._what}: {self._command[0]} cannot be started: {reason}"
            raise SourceFailed(msg, hint="Install it, or correct the command.") from error
        self._process = process
        self._deadline = self._monotonic() + self._timeout_s
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None  # noqa: S101  (they are pipes)
            self._poll.register(pipe.fileno(), select.POLLIN)
        assert process.stdout is not None  # noqa: S101
        with contextlib.suppress(OSError, AttributeError):  # fewer changes between the processes; not needed
            fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return process

    def _wait(self, round_s: float = _ROUND_S) -> list[int]:
        """What can be read now, or nothing after a while; what the command says is taken in."""
        self._stop()
        left = self._deadline - self._monotonic()
        if left <= 0:
            raise self._failed(
                f"took longer than {self._timeout_s:.0f} s", "Raise its timeout, or find out why."
            )
        process = self._process
        assert process is not None and process.stderr is not None  # noqa: S101, PT018
        ready = [descriptor for descriptor, _ in self._poll.poll(1000 * min(left, round_s))]
        if process.stderr.fileno() in ready:
            data = os.read(process.stderr.fileno(), 65_536)
            if data:
                self._said = (self._said + data)[-SAID_BYTES:]
            else:
                self._poll.unregister(process.stderr.fileno())
        return ready

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """The output is over: wait for the command. Raises ``SourceFailed`` unless it ended well."""
        assert process.stderr is not None  # noqa: S101
        while True:
            try:
                process.wait(_BRIEF_S)
                break
            except subprocess.TimeoutExpired:
                self._wait(0)
        os.set_blocking(process.stderr.fileno(), False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(process.stderr.fileno(), 65_536):
                self._said = (self._said + data)[-SAID_BYTES:]
        code = process.returncode
        if code:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
            raise self._failed(how, "See what it says; nothing was kept of this run.")
        self.close()

    def _failed(self, how: str, hint: str) -> SourceFailed:
        self.close()
        said = " ".join(self._said.decode("utf-8", "backslashreplace").split())
        return SourceFailed(f"{self._what}: {how}{f': {said}' if said else ''}", hint=hint, retryable=True)
