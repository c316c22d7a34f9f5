"""Measure one command, and the state of the disk around it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LAUNCHER = Path(__file__).with_name("launch.py")
#: A single step of a benchmark that takes longer than this hangs.
_TIMEOUT_S = 3 * 3600


class CommandError(Exception):
    """A measured or preparing command failed; the message holds the end of its output."""


@dataclass(frozen=True)
class Command:
    """What to run: arguments, environment (all of it) and working folder."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path


@dataclass(frozen=True)
class Measurement:
    """What one run of a command took.

    ``cpu_s`` is user and system time of the command and its descendants; ``peak_bytes`` is the largest
    resident size of any one of these processes.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int


def measure(command: Command, log: Path) -> Measurement:
    """Run a command from a clean disk queue and tell what it took. Raises :class:`CommandError`."""
    os.sync()
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(result), str(log), str(command.folder)]
        subprocess.run(
            [*launcher, *command.arguments], env=dict(command.environment), check=True, timeout=_TIMEOUT_S
        )
        raw = json.loads(result.read_text())
    if raw["exit_code"] != 0:
        raise _failed(command, raw["exit_code"], log.read_text(errors="replace"))
    return Measurement(raw["wall_s"], raw["user_s"] + raw["sys_s"], raw["peak_bytes"])


def run(command: Command) -> str:
    """Run a command that is not measured and return its output. Raises :class:`CommandError`."""
    done = subprocess.run(
        list(command.arguments),
        env=dict(command.environment),
        cwd=command.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise _failed(command, done.returncode, done.stdout + done.stderr)
    return done.stdout


def _failed(command: Command, exit_code: int, output: str) -> CommandError:
    tail = "\n".join(output.splitlines()[-15:])
    return CommandError(f"exit code {exit_code} from: {' '.join(command.arguments)}\n{tail}")


def regular_files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """All regular files below a folder, links not followed, in no particular order."""
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry


def count(folder: Path) -> tuple[int, int]:
    """Number and total bytes of the regular files below a folder."""
    files = total = 0
    for entry in regular_files(folder):
        files += 1
        total += entry.stat(follow_symlinks=False).st_size
    return files, total


def warm(folder: Path) -> None:
    """Read everything below a folder, so that each tool finds the same in the page cache."""
    buffer = memoryview(bytearray(1 << 20))
    for entry in regular_files(folder):
        file = os.open(entry.path, os.O_RDONLY)
        try:
            while os.readv(file, [buffer]):
                pass
        finally:
            os.close(file)


def remove(folder: Path) -> None:
    """Remove a folder, including files that a tool made immutable with ``chattr +i``."""
    if not folder.exists():
        return
    if shutil.which("chattr"):
        # Fails where the file system has no such flag, and then there is nothing to clear either.
        subprocess.run(["chattr", "-R", "-f", "-i", str(folder)], check=False, capture_output=True)
    shutil.rmtree(folder)
