"""A file tree whose small files are made by processes of their own, one for each core.

What a restore of many small files costs is made up half of the kernel's work, half of Python's around it.
Threads share one interpreter, so that they get no further than one core and a bit.
"""

from __future__ import annotations

import mmap
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from donjon.core.errors import TargetFailed
from donjon.core.units import MIB
from donjon.targets.attributes import MAX_WARNINGS
from donjon.targets.base import NewFile, Outcome, Overwrite
from donjon.targets.tree import TreeTarget
from donjon.targets.worker import Done, Setup, Work, outcome_of, receive, send

#: Data of the files that a process makes at a time; more than a batch of a restore has.
_MEMORY_BYTES = 6 * MIB
#: A restore of fewer files is over before processes for it would have started.
_START_AFTER_FILES = 2000
_MOST_PROCESSES = 4
_END_TIMEOUT_S = 30
#: What Python itself reads. Nothing else of the environment is passed on: it may hold credentials.
_PASSED_ON = ("PYTHON", "LC_", "LANG")


class ParallelTreeTarget(TreeTarget):
    """See ``TreeTarget``. The processes are started once there is enough for them to do, and ended by
    ``close``. With ``processes`` below 2, or on a system without memory that has no name, there are none.
    """

    def __init__(
        self,
        root: bytes | Path,
        overwrite: Overwrite,
        *,
        owner: bool | None = None,
        processes: int | None = None,
        start_after_files: int = _START_AFTER_FILES,
    ) -> None:
        super().__init__(root, overwrite, owner=owner)
        self._overwrite, self._owner = overwrite, owner
        wanted = min(os.cpu_count() or 1, _MOST_PROCESSES) if processes is None else processes
        self._count = wanted if hasattr(os, "memfd_create") else 0
        self._start_after = start_after_files
        self._seen = 0
        self._workers: list[_Worker] = []
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._mutex = threading.Lock()

    def write_files(self, files: Sequence[NewFile]) -> list[Outcome]:
        """See the port. Raises ``TargetFailed`` if a process ends before its work does."""
        size_bytes = sum(len(data) for file in files for _, data in file.pieces)
        if not self._has_started(len(files)) or not files or size_bytes > _MEMORY_BYTES:
            return super().write_files(files)
        worker = self._idle.get()
        try:
            return worker.write(files)
        finally:
            self._idle.put(worker)

    def warnings(self) -> list[tuple[bytes, str]]:
        found = super().warnings()
        for worker in self._workers:
            found += worker.warnings()
        more = len(found) - MAX_WARNINGS
        return found if more <= 1 else [*found[:MAX_WARNINGS], (b"", f"and {more} more")]

    def close(self) -> None:
        """End the processes, and close the directories that were kept open for speed."""
        with self._mutex:
            workers, self._workers = self._workers, []
            self._count = 0
        for worker in workers:
            worker.close()
        super().close()

    def _has_started(self, files: int) -> bool:
        with self._mutex:
            self._seen += files
            if not self._workers and self._count > 1 and self._seen > self._start_after:
                for _ in range(self._count):
                    worker = _Worker(self._directories.root_fd, self._overwrite, self._owner)
                    self._workers.append(worker)
                    self._idle.put(worker)
            return bool(self._workers)


class _Worker:
    """One process, and the memory that it shares with this one. One thread at a time uses it.

    It is in a process group of its own, so that Ctrl-C does not reach it: it ends when this process closes
    the pipe, or is gone.
    """

    def __init__(self, root_fd: int, overwrite: Overwrite, owner: bool | None) -> None:
        # Without a name and on no disk: it holds plaintext, and is gone with these processes.
        memory_fd = os.memfd_create("donjon-restore")
        try:
            os.ftruncate(memory_fd, _MEMORY_BYTES)
            self._memory = mmap.mmap(memory_fd, _MEMORY_BYTES)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "donjon.targets.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(memory_fd, root_fd),
                process_group=0,
                env={name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)},
            )
        finally:
            os.close(memory_fd)
        self._to_it = cast("IO[bytes]", self._process.stdin)
        self._from_it = cast("IO[bytes]", self._process.stdout)
        # By its descriptor: what was opened as the root stays the root, whatever its name means by now.
        root = b"/proc/self/fd/%d" % root_fd
        self._send(Setup(root, overwrite, owner, memory_fd, _MEMORY_BYTES))

    def write(self, files: Sequence[NewFile]) -> list[Outcome]:
        rows = []
        at = 0
        for file in files:
            pieces = []
            for offset, data in file.pieces:
                end = at + len(data)
                self._memory[at:end] = data
                pieces.append((offset, at, len(data)))
                at = end
            rows.append((file.path, file.entry, pieces))
        outcomes = self._ask(Work(rows)).outcomes
        return [outcome_of(told, file.path) for told, file in zip(outcomes, files, strict=True)]

    def warnings(self) -> list[tuple[bytes, str]]:
        return self._ask(Work([])).warnings

    def close(self) -> None:
        try:
            self._to_it.close()
            self._process.wait(_END_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._from_it.close()
        self._memory.close()

    def _ask(self, work: Work) -> Done:
        self._send(work)
        done = receive(self._from_it, Done)
        if done is None:
            raise self._ended()
        if done.failure:
            raise RuntimeError(done.failure)
        return done

    def _send(self, message: Setup | Work) -> None:
        try:
            send(self._to_it, message)
        except OSError as error:
            raise self._ended() from error

    def _ended(self) -> TargetFailed:
        return TargetFailed(
            f"a process that makes files ended unexpectedly (exit code {self._process.poll()})",
            hint="The machine may be out of memory. Run the restore again: it goes on.",
        )
