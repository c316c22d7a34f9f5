"""What both acts of the demo play on: a temporary folder, the real command, and somebody who watches."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from donjon.testing.aws.seaweedfs import SeaweedFs
from donjon.testing.folders import remove_tree
from donjon.testing.trees import compare_trees

_SHOWN = 10
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoFailed(Exception):
    """A command or a proof failed."""


@dataclass(slots=True)
class Stage:
    """The temporary folder, how long each command took, and what the summary tells.

    ``environment`` is what commands see beside what they inherit.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)

    def donjon(self, *arguments: str, label: str = "", code: int = 0) -> None:
        """Run a command for all to see. Raises ``DemoFailed`` if it ends with another code."""
        words = self._announce(arguments)
        started = time.monotonic()
        ended_with, _ = self._carry_out(arguments)
        if label:
            self.seconds[label] = time.monotonic() - started
        if ended_with != code:
            msg = f"`donjon {words}` ended with {ended_with}"
            raise DemoFailed(msg)

    def ask(self, *arguments: str, code: int = 0, announce: bool = False) -> Any:
        """What a command answers with ``--json``. Raises ``DemoFailed`` if it ends with another code."""
        arguments = (*arguments, "--json")
        if announce:
            self._announce(arguments)
        ended_with, answer = self._carry_out(arguments, stdout=subprocess.PIPE)
        if ended_with != code:
            msg = f"`donjon {' '.join(arguments)}` ended with {ended_with}, not with {code}"
            raise DemoFailed(msg)
        return json.loads(answer)

    def with_environment(self, environment: dict[str, str]) -> Stage:
        """The same stage for commands that see this as well."""
        return Stage(self.folder, self.environment | environment, self.seconds, self.results)

    def _announce(self, arguments: tuple[str, ...]) -> str:
        words = " ".join(arguments).replace(str(self.folder), "$PWD")
        say(bold(f"$ donjon {words}"))
        return words

    def _carry_out(self, arguments: tuple[str, ...], stdout: int | None = None) -> tuple[int, bytes]:
        """Run a command to its end; its exit code and, through a pipe, its output.

        An ending while it is being started would leave a command that works on in a folder that is removed.
        It is in a group of its own, so that Ctrl-C reaches the demo alone: a Python that is just starting
        would answer it with lines about itself.
        """
        process: subprocess.Popen[bytes] | None = None
        try:
            with delayed_endings():
                command = [sys.executable, "-m", "donjon", *arguments]
                process = subprocess.Popen(
                    command, cwd=self.folder, env=self._environment(), stdout=stdout, process_group=0
                )
            output, _ = process.communicate()
        except BaseException:
            if process is not None:
                with contextlib.suppress(ProcessLookupError):  # it has ended already
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            raise
        return process.returncode, output or b""

    def _environment(self) -> dict[str, str]:
        return os.environ | {"DONJON_HOME": str(self.folder / "config")} | self.environment


def prove(witness: Path, recovered: Path) -> None:
    """Raises ``DemoFailed`` unless both trees are the same in everything."""
    differences = compare_trees(os.fsencode(witness), os.fsencode(recovered))
    if differences:
        more = [f"and {len(differences) - _SHOWN} more"] if len(differences) > _SHOWN else []
        raise DemoFailed("\n".join(["what came back differs:", *differences[:_SHOWN], *more]))


def title(text: str) -> None:
    """A heading of the story."""
    say("\n" + bold(f"== {text}"))


def say(text: str) -> None:
    """A line; at once, as the commands write to the same terminal."""
    print(text, flush=True)


def bold(text: str) -> str:
    """The text as a terminal shows it bold; without a terminal as it is."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards, locked objects included, whatever happens but ``kill -9``."""
    folder = Path(tempfile.mkdtemp(prefix="donjon-demo-"))
    try:
        yield folder
    finally:
        for number in _ENDINGS:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave locked files behind
        remove_tree(folder)


@contextmanager
def s3_server(folder: Path) -> Iterator[SeaweedFs]:
    """A server that has ended, whatever happens but ``kill -9``, before its folder is removed."""
    folder.mkdir()
    server = SeaweedFs(folder)
    try:
        with delayed_endings():
            server.start()
        yield server
    finally:
        with delayed_endings():
            server.kill()


def forget_user() -> None:
    """Nothing that this user has set up for Donjon, clouds or proxies may be used or changed from here on."""
    for name in list(os.environ):
        if name.startswith(("DONJON_", "AWS_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        os.environ[name] = os.devnull


def listen_for_endings() -> None:
    """Let SIGTERM and SIGHUP end the demo as Ctrl-C does."""
    for number in _ENDINGS[1:]:
        signal.signal(number, _interrupt)


@contextmanager
def delayed_endings() -> Iterator[None]:
    """Ctrl-C in the body counts after it, so that no server starts or stays that nobody knows of."""
    heard: list[int] = []
    usual = {number: signal.signal(number, lambda got, _: heard.append(got)) for number in _ENDINGS}
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        if heard:  # also in place of the failure that the ending caused: a server ends by Ctrl-C as well
            raise KeyboardInterrupt(heard[0])


def _interrupt(number: int, _: object) -> None:
    raise KeyboardInterrupt(number)
