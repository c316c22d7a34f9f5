"""One run of a workload at a time, and what a run holds: kept in files, so that they outlast a crash.

The lock of a workload is one of the kernel: it ends with the process, however that ends. What a hook has
brought to rest does not, so it is written down before, and released by whoever comes next.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from donjon.core.errors import DonjonError, PermissionMissing, Refused
from donjon.keys.private import create_private, private_folder, replace_private, sync_folder

_TRIES: Final = 10
_PAUSE_S: Final = 0.02
_STARTED_FIELD: Final = 19  # proc(5): starttime is field 22; the first three end with the command's ")"


class Held(msgspec.Struct, frozen=True):
    """An application that is at rest, and what releases it.

    ``since`` is in Unix seconds. ``hook`` is the process that brings it to rest, 0 while there is none, and
    ``hook_started`` what tells it from a later one with the same number.
    """

    plan: str
    workload: str
    after: tuple[str, ...]
    timeout_s: int
    since: int
    hook: int = 0
    hook_started: str = ""


@dataclass(frozen=True, slots=True)
class Claims:
    """The files of one home."""

    home: Path

    @contextmanager
    def lock(self, plan: str, workload: str) -> Iterator[HeldFile]:
        """Be the only one who runs a workload on this host. Raises ``Refused`` if somebody else does."""
        path = self.home / "locks" / plan / f"{workload}.lock"
        private_folder(path.parent)
        with _opened(path) as descriptor:
            try:
                _take(descriptor)
            except BlockingIOError as error:
                owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
                msg = f"{workload}: is being run by process {owner or '?'}"
                raise Refused(msg, hint="Wait until it has finished.") from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield HeldFile(self.home / "held" / plan / f"{workload}.json")

    def is_running(self, plan: str, workload: str) -> bool:
        """Whether a process of this host runs a workload at the moment."""
        path = self.home / "locks" / plan / f"{workload}.lock"
        if not path.exists():
            return False
        with _opened(path) as descriptor:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def left(self) -> list[tuple[str, str]]:
        """Plan and workload of all that is written down as held, by running processes or by dead ones."""
        return sorted((path.parent.name, path.stem) for path in self.home.glob("held/*/*.json"))


def _take(descriptor: int) -> None:
    """Lock it. Raises ``BlockingIOError`` if it stays locked: ``is_running`` locks it for a moment."""
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not left:
                raise
            time.sleep(_PAUSE_S)
        else:
            return


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        msg = f"{path}: cannot be opened: {error.strerror}"
        raise PermissionMissing(msg, hint="Run it as the user that the folder belongs to.") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class HeldFile:
    """Where it is written down what a workload holds; only whoever has its lock may touch it."""

    path: Path

    def read(self) -> Held | None:
        """What is held, None for nothing. Raises ``DonjonError`` if that cannot be read."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Held)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, OSError) as error:
            msg = f"{self.path}: cannot be read: {error}"
            hint = "It says what a killed run left at rest. Release that by hand, then remove the file."
            raise DonjonError(msg, hint=hint) from error

    def write(self, held: Held) -> None:
        """Write it down, on the disk on return."""
        private_folder(self.path.parent)
        data = msgspec.json.encode(held) + b"\n"
        if self.path.exists():
            replace_private(self.path, data)
        else:
            create_private(self.path, data)

    def clear(self) -> None:
        """Nothing is held any more."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
            sync_folder(self.path.parent)


def started(process: int) -> str:
    """When a process started, in ticks since the boot; empty if there is none, or nobody tells."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return ""
    return status.rpartition(")")[2].split()[_STARTED_FIELD]
