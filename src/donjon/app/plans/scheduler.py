"""The service that runs a plan: what is due by the catalog, in processes of their own."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from donjon.app.plans.claims import Claims
from donjon.app.plans.histories import history_of
from donjon.app.plans.hooks import release_left
from donjon.app.plans.watch import PlanWatch
from donjon.catalog.database import Catalog
from donjon.core.errors import DonjonError, Refused
from donjon.core.secrecy import redacted
from donjon.keys.private import private_folder
from donjon.scheduling.due import Due, agenda
from donjon.scheduling.loop import Job, Journal

_ERROR_BYTES: Final = 4000
_RELEASE_EVERY_S: Final = 60.0


@dataclass(slots=True)
class ChildJob:
    """A run in a child process. It goes on if this process dies."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]
    errors: IO[bytes]

    def poll(self) -> int | None:
        return self.process.poll()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.process.kill()

    def result(self) -> dict[str, Any]:
        """What it printed: of its run the row; empty if it printed nothing of that kind."""
        self.output.seek(0)
        try:
            rows = msgspec.json.decode(self.output.read())["runs"]
            return dict(rows[0])
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError):
            return {}

    def said(self) -> str:
        """The end of its error output."""
        self.errors.seek(0, os.SEEK_END)
        self.errors.seek(max(0, self.errors.tell() - _ERROR_BYTES))
        return redacted(self.errors.read().decode(errors="replace")).strip()

    def close(self) -> None:
        """Forget what it said."""
        self.output.close()
        self.errors.close()


class Scheduler:
    """What the loop of the service asks."""

    def __init__(
        self,
        claims: Claims,
        watch: PlanWatch,
        catalog: Catalog,
        *,
        environment: Mapping[str, str],
        journal: Journal,
    ) -> None:
        self._claims = claims
        self._watch = watch
        self._catalog = catalog
        self._environment = environment
        self._journal = journal
        self._releasing: threading.Thread | None = None
        self._released_at = -_RELEASE_EVERY_S
        self.reload = False

    def agenda(self, now: int) -> list[Due]:
        """What is due, and when, of what nobody runs."""
        self.release_left()
        plan = self._watch.look(again=self.reload)
        self.reload = False
        free = [name for name in plan.workloads if not self._claims.is_running(plan.name, name)]
        histories = {name: history_of(self._catalog, plan.name, name) for name in free}
        return [one for one in agenda(plan, histories, now) if one.workload in free]

    def start(self, one: Due) -> Job:
        """Start a run. Raises ``OSError``."""
        # -P: not from the folder that this was started in, which may be anybody's.
        command = [sys.executable, "-P", "-m", "donjon", "plan", "run", one.workload]
        command += ["--plan", str(self._watch.file), "--due-at", str(one.at), "--json"]
        output, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115  (the job's)
        environment = dict(self._environment) | {"DONJON_HOME": str(self._claims.home)}
        environment.pop("NOTIFY_SOCKET", None)
        try:
            process = subprocess.Popen(  # noqa: S603  (this program itself)
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )
        except OSError:
            output.close()
            errors.close()
            raise
        return ChildJob(process, output, errors)

    def ended(self, workload: str, job: Job, code: int) -> None:
        """Tell how a run ended."""
        assert isinstance(job, ChildJob)  # noqa: S101  (``start`` makes no others)
        row = job.result()
        if not row:
            self._journal("crashed", workload=workload, exit=code, said=job.said())
        else:
            wanted = ("point", "duration_s", "attempt", "unreadable", "error", "hint", "notes")
            told = {name: row[name] for name in wanted if row.get(name)}
            counts = row.get("counts") or {}
            self._journal(str(row["state"]), workload=workload, **told, **counts)
        job.close()

    def release_left(self, *, wait: bool = False) -> None:
        """Release what killed runs left at rest, beside what goes on here: a hook may take its time."""
        if self._releasing is not None and self._releasing.is_alive():
            return
        left = [one for one in self._claims.left() if not self._claims.is_running(*one)]
        if not left or time.monotonic() < self._released_at + _RELEASE_EVERY_S:
            return
        self._released_at = time.monotonic()
        self._releasing = threading.Thread(target=self._release, args=(left,), name="donjon-release")
        self._releasing.start()
        if wait:
            self._releasing.join()

    def _release(self, left: list[tuple[str, str]]) -> None:
        for plan, workload in left:
            try:
                with self._claims.lock(plan, workload) as held_file:
                    if told := release_left(held_file, self._environment):
                        self._journal("released", plan=plan, workload=workload, message=told)
            except Refused:  # somebody runs it, and has released it
                continue
            except DonjonError as error:
                self._journal("error", workload=workload, message=error.message, hint=error.hint)


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Be the only service of a home. Raises ``Refused`` if there is one."""
    path = private_folder(home / "locks") / "service.lock"
    with path.open("ab") as lock:
        os.fchmod(lock.fileno(), 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"`donjon run` is running already for {home}"
            raise Refused(msg, hint="Stop that one first.") from error
        yield
