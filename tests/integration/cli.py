"""Runs the real `donjon` command, with a home of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.integration.planted import Secrets, check_shown, secrets_of

TIMEOUT_S = 120

#: What a command that was started in the background must not show.
_STARTED: weakref.WeakKeyDictionary[subprocess.Popen[bytes], Secrets] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Donjon:
    """The command of this environment. All that it keeps is below ``folder``."""

    folder: Path
    #: Whether the recovery kit is at hand, in ``DONJON_KIT``.
    has_kit: bool = True
    timeout_s: float = TIMEOUT_S
    #: How many days later it is for the command than for everybody else.
    days_later: int = 0

    @property
    def home(self) -> Path:
        """``DONJON_HOME``."""
        return self.folder / "home"

    @property
    def vault(self) -> Path:
        """The folder of the vault."""
        return self.folder / "vault"

    @property
    def kit(self) -> Path:
        """The recovery kit of the vault."""
        return self.folder / "vault.kit"

    @property
    def program(self) -> Path:
        """The command as it is installed beside this interpreter."""
        return Path(sys.executable).with_name("donjon")

    @property
    def second_kit(self) -> Path:
        """The other kit that ``init`` made; it opens, and holds no root key."""
        return self.folder / "second.kit"

    def without_kit(self) -> Donjon:
        """The same host, but nothing that opens backups."""
        return replace(self, has_kit=False)

    def later(self, days: int) -> Donjon:
        """The same host, some days later; its stores in folders go by the same clock."""
        return replace(self, days_later=days)

    def command(self) -> list[str | Path]:
        """What runs the command. faketime shifts the clock of the process, but not the times of files."""
        if not self.days_later:
            return [self.program]
        return ["faketime", "-f", f"+{self.days_later}d", self.program]

    def environment(self) -> dict[str, str]:
        """What the command sees: nothing of the user who runs the tests."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("DONJON_", "XDG_"))}
        own |= {"DONJON_HOME": str(self.home), "HOME": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        own |= {"NO_FAKE_STAT": "1"}
        return own | ({"DONJON_KIT": str(self.kit)} if self.has_kit else {})

    def init(self, *options: str, lock: str = "none") -> dict[str, Any]:
        """Make the vault and its two kits."""
        kits = ("--kit", self.kit, "--second-kit", self.second_kit)
        return self.json("init", self.vault, *kits, "--lock", lock, *options)

    def run(
        self,
        *arguments: str | Path,
        code: int = 0,
        input_bytes: bytes | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end, and check its exit code, and that it shows no secret of this host."""
        seen = self.environment() | dict(environment or {})
        secrets = secrets_of(self.home, arguments, seen, input_bytes)
        done = subprocess.run(
            [*self.command(), *arguments],
            env=seen,
            input=input_bytes if input_bytes is not None else b"",
            capture_output=True,
            timeout=self.timeout_s,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout!r}\n{done.stderr!r}"
        if "DONJON_DEBUG" not in seen:
            assert b"Traceback" not in done.stderr, done.stderr.decode()
        secrets.forms |= secrets_of(self.home, arguments, seen).forms  # those that it made
        check_shown(secrets, arguments, done.stdout, done.stderr)
        return done

    def text(self, *arguments: str | Path, code: int = 0) -> str:
        """What a command prints for people."""
        return self.run(*arguments, code=code).stdout.decode()

    def json(self, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
        """The one object that a command prints with ``--json``."""
        data = json.loads(self.run(*arguments, "--json", code=code).stdout)
        assert isinstance(data, dict)
        return data

    def start(
        self, *arguments: str | Path, stream: int = subprocess.DEVNULL, through: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own; end it with ``end``.

        ``stream`` is the descriptor of its standard input, ``through`` a program that starts it.
        """
        environment = self.environment()
        process = subprocess.Popen(
            [*through, self.program, *arguments],
            env=environment,
            stdin=stream,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        _STARTED[process] = secrets_of(self.home, arguments, environment)
        return process


def end(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Kill a process, if it still runs, with all that it started; its output and errors."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    output, errors = process.communicate(timeout=TIMEOUT_S)
    _check_shown(process, output, errors)
    return output, errors


def end_well(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Let a process come to its end; its output and errors."""
    try:
        output, errors = process.communicate(timeout=TIMEOUT_S)
    finally:
        if process.poll() is None:
            end(process)
    assert b"Traceback" not in errors, errors.decode()
    _check_shown(process, output, errors)
    return output, errors


def _check_shown(process: subprocess.Popen[bytes], output: bytes | None, errors: bytes | None) -> None:
    if secrets := _STARTED.get(process):
        check_shown(secrets, [], output or b"", errors or b"")
