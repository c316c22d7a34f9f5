"""Runs the real `donjon` command, with a home of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

TIMEOUT_S = 120


@dataclass(frozen=True)
class Donjon:
    """The command of this environment. All that it keeps is below ``folder``."""

    folder: Path
    #: Whether the recovery kit is at hand, in ``DONJON_KIT``.
    has_kit: bool = True
    timeout_s: float = TIMEOUT_S

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

    def without_kit(self) -> Donjon:
        """The same host, but nothing that opens backups."""
        return replace(self, has_kit=False)

    def environment(self) -> dict[str, str]:
        """What the command sees: nothing of the user who runs the tests."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("DONJON_", "XDG_"))}
        own |= {"DONJON_HOME": str(self.home), "HOME": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        return own | ({"DONJON_KIT": str(self.kit)} if self.has_kit else {})

    def init(self, *options: str, lock: str = "none") -> dict[str, Any]:
        """Make the vault and its kit."""
        return self.json("init", self.vault, "--kit", self.kit, "--lock", lock, *options)

    def run(
        self,
        *arguments: str | Path,
        code: int = 0,
        input_bytes: bytes | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end, and check its exit code."""
        done = subprocess.run(
            [self.program, *arguments],
            env=self.environment() | dict(environment or {}),
            input=input_bytes if input_bytes is not None else b"",
            capture_output=True,
            timeout=self.timeout_s,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout!r}\n{done.stderr!r}"
        assert b"Traceback" not in done.stderr, done.stderr.decode()
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
        return subprocess.Popen(
            [*through, self.program, *arguments],
            env=self.environment(),
            stdin=stream,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Kill a process, if it still runs, with all that it started; its output and errors."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate(timeout=TIMEOUT_S)


def end_well(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Let a process come to its end; its output and errors."""
    try:
        output, errors = process.communicate(timeout=TIMEOUT_S)
    finally:
        if process.poll() is None:
            end(process)
    assert b"Traceback" not in errors, errors.decode()
    return output, errors
