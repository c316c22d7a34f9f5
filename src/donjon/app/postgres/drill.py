"""The drill of PostgreSQL: restore a server into a fresh one, recover, check, and sign what was seen."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from donjon.app.evidence import Recorded, record_or_tell, recorder_for
from donjon.app.postgres.archive import WalArchive
from donjon.app.postgres.servers import ServerPoint, check_time, find_server_point, unpack_all
from donjon.app.verdicts.permits import NO_PERMIT, Permit
from donjon.app.wiring import Workspace
from donjon.core.errors import DonjonError, TargetFailed
from donjon.core.events import Progress, StopCheck
from donjon.format.evidence import EvidenceRow, Outcome, evidence_row, passed
from donjon.recovery.postgres import Goal, prepare_directory, write_goal
from donjon.recovery.postgres_log_feed import LogFeed
from donjon.recovery.postgres_server import DrillServer, account, drill_server
from donjon.repository.vault import Vault
from donjon.sources.postgres import DUMPS, GLOBALS, program

KIND: Final = "postgres-restore"
_PROGRAMS: Final = ("postgres", "pg_controldata", "pg_verifybackup", "pg_amcheck")
_FOR_DUMPS: Final = ("initdb", "psql", "pg_restore")
_HARMLESS: Final = "already exists"


@dataclass(frozen=True, slots=True)
class Check:
    """A query that has to give a row whose first value is neither null nor false."""

    database: str
    sql: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to restore, how far to recover, and what to look at. ``parent`` is where the server lives."""

    point: str
    time: datetime | None = None
    lsn: str | None = None
    uses_wal: bool = True
    checks: tuple[Check, ...] = ()
    checks_indexes: bool = True
    run_as: str | None = None
    parent: Path | None = None
    timeout_s: float = 4 * 3600
    sign: Path | None = None
    out: Path | None = None
    in_vault: bool = True
    permit: Permit = NO_PERMIT


@dataclass(slots=True)
class Drilled:
    """What came of it. ``values`` are what the queries gave, ``notes`` why a step failed: for whoever ran the
    drill alone, as everybody who reads the store can read evidence.

    ``duration_s`` is from the first byte fetched until the server was open, -1 if it never was: the time to
    hold against the RTO. ``failure`` is why it was not signed.
    """

    subject: str
    point: bytes
    rows: list[EvidenceRow] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    segments: int = 0
    duration_s: float = -1
    recorded: Recorded | None = None
    failure: DonjonError | None = None

    @property
    def has_passed(self) -> bool:
        """Whether something was tried and nothing failed."""
        return passed(tuple(self.rows))


class _Over(Exception):
    """A step failed, without which those after it make no sense."""


def drill_server_restore(
    workspace: Workspace,
    wanted: Wanted,
    environment: Mapping[str, str],
    progress: Progress,
    stop: StopCheck,
) -> Drilled:
    """Carry out the drill. Nothing of the server is left. Raises what stores raise before it begins."""
    vault = workspace.open_for_reading()
    recorder = recorder_for(wanted, workspace, vault, environment)
    drill = _Drill(workspace, vault, wanted, progress, stop)
    done = drill.run()
    done.recorded, done.failure = record_or_tell(recorder, KIND, done.subject, done.rows)
    return done


class _Drill:
    def __init__(
        self, workspace: Workspace, vault: Vault, wanted: Wanted, progress: Progress, stop: StopCheck
    ) -> None:
        self._workspace, self._vault, self._wanted = workspace, vault, wanted
        self._progress, self._stop = progress, stop
        catalogue = WalArchive(workspace, vault, "").catalogue
        self._found: ServerPoint = find_server_point(
            workspace, vault, catalogue, wanted.point, wanted.permit, progress
        )
        check_time(self._found, wanted.time)
        facts = self._found.facts
        names = _PROGRAMS if self._found.is_base else (*_PROGRAMS, *_FOR_DUMPS)
        self._programs = {name: program(name, facts.major, exactly=True) for name in names}
        self._user = facts.superuser
        point = self._found.point.point_id
        self._done = Drilled(f"{vault.store.url} point {point.hex()[:12]}", point)

    def run(self) -> Drilled:
        began = time.monotonic()
        parent = self._wanted.parent or Path(tempfile.gettempdir())
        folder = parent / f"donjon-drill-{secrets.token_hex(6)}"
        runs_as = account(self._wanted.run_as)
        with ExitStack() as stack:
            server = stack.enter_context(drill_server(folder, self._programs, runs_as))
            try:
                if self._found.is_base:
                    self._restore_base(server, stack)
                else:
                    self._restore_dumps(server)
                self._done.duration_s = round(time.monotonic() - began, 3)
                self._check_queries(server)
                self._check_indexes(server)
            except _Over:
                pass
        return self._done

    # -- steps -------------------------------------------------------------------------------------

    def _step(self, tried: str, expected: str, work: Callable[[], str]) -> None:
        """Do it and note what was seen; ``work`` tells that. Raises ``_Over`` if it failed."""
        self._stop()
        began = time.monotonic()
        try:
            seen = work()
        except DonjonError as error:
            self._add(tried, expected, "failed", Outcome.FAILED, type(error).__name__)
            self._done.notes.append(f"{tried}: {error.message}")
            raise _Over from error
        self._add(tried, expected, f"{seen} in {time.monotonic() - began:.1f} s", Outcome.PASSED)

    def _add(self, tried: str, expected: str, seen: str, outcome: Outcome, answer: str = "") -> None:
        self._done.rows.append(evidence_row(tried, expected, seen, outcome, answer=answer))

    def _restore_base(self, server: DrillServer, stack: ExitStack) -> None:
        found, size = self._found, self._found.point.body.size_bytes
        self._progress.total(size_bytes=size)

        def restore() -> str:
            places = {one.oid: server.folder / f"tablespace-{one.oid}" for one in found.facts.tablespaces}
            for place in places.values():
                prepare_directory(place, like=server.data)
            unpack_all(found, server.data, places, self._progress, self._stop)
            return f"{size} bytes"

        def verify() -> str:
            _require(server.run("pg_verifybackup", "--no-parse-wal", str(server.data)))
            return "every checksum of the server's own manifest holds"

        self._step("restore the base backup", "all of it", restore)
        self._step("verify it with pg_verifybackup", "as the server sent it", verify)
        if not self._wanted.uses_wal:
            write_goal(server.data, Goal())
            self._step("start a server", "consistent", lambda: self._open(server, None))
            return
        archive = WalArchive(self._workspace, self._vault, found.point.body.workload)
        archive.refresh(self._progress)
        system = found.facts.system

        def fetch(name: str, out: Path) -> None:
            archive.fetch(system, name, out)

        feed = stack.enter_context(LogFeed(server.folder, fetch, server.runs_as))
        # Not the way round: the server has to be gone before what it asks is.
        stack.callback(server.stop)
        goal = Goal(feed.restore_command, self._wanted.time, self._wanted.lsn)
        write_goal(server.data, goal)
        self._step("start a server, and recover", _goal_text(goal), lambda: self._open(server, feed))
        self._done.segments = len(feed.served)

    def _open(self, server: DrillServer, feed: LogFeed | None) -> str:
        server.start()
        try:
            server.wait_until_open(self._user, self._wanted.timeout_s, self._stop)
        except TargetFailed as error:
            if feed is not None and feed.failure is not None:
                raise type(feed.failure)(feed.failure.message, hint=feed.failure.hint) from error
            raise
        return f"open, after {len(feed.served)} files of the log" if feed is not None else "open"

    def _restore_dumps(self, server: DrillServer) -> None:
        def make() -> str:
            options = ["-U", self._user, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]
            _require(server.run("initdb", "-D", str(server.data), *options))
            return self._open(server, None)

        def restore_globals() -> str:
            pieces = self._found.content(GLOBALS)
            options = ["-X", "-q", "-h", str(server.sockets), "-U", self._user, "-d", "postgres"]
            code, said = server.feed("psql", *options, pieces=pieces)
            wrong = [line for line in said.splitlines() if "ERROR:" in line and _HARMLESS not in line]
            _require((code or len(wrong), "; ".join(wrong) or said))
            return "restored"

        self._step("start a fresh server", "open", make)
        self._step("restore roles and tablespaces", "no error", restore_globals)
        dumps = [path for path in self._found.point.body.sources if path.startswith(b"/" + DUMPS + b"/")]
        for number, path in enumerate(dumps, 1):
            tried = f"restore the dump of database {number} of {len(dumps)}"
            self._step(tried, "no error", lambda path=path: self._restore_dump(server, path))  # type: ignore[misc]  # bound now

    def _restore_dump(self, server: DrillServer, path: bytes) -> str:
        options = ["-h", str(server.sockets), "-U", self._user, "-d", "postgres", "--exit-on-error"]
        if path != b"/" + DUMPS + b"/postgres.dump":  # which every server has
            options.append("--create")
        pieces = self._found.content(path.removeprefix(b"/"))
        _require(server.feed("pg_restore", *options, pieces=pieces))
        return "restored"

    # -- checks ------------------------------------------------------------------------------------

    def _check_queries(self, server: DrillServer) -> None:
        relations = Check("postgres", "SELECT count(*) FROM pg_catalog.pg_class")
        self._check(server, "read the catalogue", relations)
        for number, check in enumerate(self._wanted.checks, 1):
            self._done.values.append(self._check(server, f"query {number}", check))

    def _check(self, server: DrillServer, tried: str, check: Check) -> str:
        """Ask, and note whether the answer is good; the first value."""
        began = time.monotonic()
        row: tuple[Any, ...] | None = None
        answer = ""
        try:
            row = server.ask(self._user, check.database, check.sql)
        except TargetFailed as error:
            # What the server says may name tables and hold data, which nobody else should read.
            answer = type(error.__cause__).__name__
            self._done.notes.append(f"{tried}: {error.message}")
        value = row[0] if row else None
        is_good = value is not None and value is not False
        seen = f"a row in {time.monotonic() - began:.1f} s" if is_good else "no row, null, false or an error"
        self._add(
            tried, "a row that is not false", seen, Outcome.PASSED if is_good else Outcome.FAILED, answer
        )
        return str(value) if row else answer

    def _check_indexes(self, server: DrillServer) -> None:
        tried, expected = "look for corruption with pg_amcheck", "none in any table or index"
        if not self._wanted.checks_indexes:
            self._add(tried, expected, "not asked for", Outcome.SKIPPED)
            return
        began = time.monotonic()
        options = ["-h", str(server.sockets), "-U", self._user, "--all", "--install-missing"]
        code, said = server.run("pg_amcheck", *options, timeout_s=self._wanted.timeout_s)
        if code and "could not open extension control file" in said:
            self._add(tried, expected, "amcheck is not installed here", Outcome.SKIPPED)
        elif code:
            self._add(tried, expected, f"ended with {code}", Outcome.FAILED)
            self._done.notes.append(f"{tried}: {said}")
        else:
            self._add(tried, expected, f"none in {time.monotonic() - began:.1f} s", Outcome.PASSED)


def _require(outcome: tuple[int, str]) -> None:
    code, said = outcome
    if code:
        raise TargetFailed(said or f"ended with {code}", hint="See what it says.")


def _goal_text(goal: Goal) -> str:
    if goal.time is not None:
        return f"recovered to {goal.settings['recovery_target_time']}"
    return f"recovered to {goal.lsn}" if goal.lsn else "recovered to the end of the log"
