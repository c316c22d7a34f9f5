"""Runs a workload as its plan says: hooks, snapshot, backup, copies, verification; all is written down."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from donjon.app.backups import Writing, writing
from donjon.app.catalog.opening import Places
from donjon.app.catalog.places import first_line, owner_by_sessions, refresh, session_name
from donjon.app.config import Settings
from donjon.app.copies import CopyRequest, make_copy
from donjon.app.kinds.base import Prepared, Surroundings
from donjon.app.kinds.registry import prepare
from donjon.app.plans.checks import verify_due, verify_place
from donjon.app.plans.claims import Claims, HeldFile
from donjon.app.plans.histories import attempts_before
from donjon.app.plans.hooks import Quiescing, release_left
from donjon.app.plans.snapshot_policy import SnapshotKeeper
from donjon.backup.job import Job
from donjon.backup.run import Outcome
from donjon.catalog import facts, points, runs
from donjon.catalog.database import Catalog
from donjon.catalog.points import CopyRow, PointRow
from donjon.catalog.runs import Run, RunState
from donjon.core.clock import Clock
from donjon.core.errors import CatalogFailed, DonjonError, IntegrityFailure, PermissionMissing
from donjon.core.events import Progress, StopCheck
from donjon.plan.model import Plan, Rules

#: Shows what goes on to a person, under a heading.
Show = Callable[[str], AbstractContextManager[Progress]]

_RENEW_S = 60.0
#: Errors that another try soon will not mend, by their exit codes: usage, vault, permission, integrity, key.
_LASTING = {2, 10, 11, 12, 13}


@dataclass(frozen=True, slots=True)
class Running:
    """What all runs of a plan share. ``environment`` is that of this process, ``host`` its name."""

    settings: Settings
    environment: Mapping[str, str]
    plan: Plan
    plan_digest: bytes
    catalog: Catalog
    clock: Clock
    show: Show
    stop: StopCheck
    host: str = field(default_factory=socket.gethostname)

    @property
    def claims(self) -> Claims:
        """Who runs what on this host."""
        return Claims(self.settings.home)


def run_workload(running: Running, workload: str, *, due_at: int | None = None) -> Run:
    """Run a workload once, and write down how it ended; a failure is in what is returned.

    Raises ``Refused`` if it is being run already, ``CatalogFailed`` if that cannot be written down, and
    ``Interrupted``, after the same.
    """
    plan = running.plan.name
    with running.claims.lock(plan, workload) as held_file:
        run = Run(
            _run_id(),
            plan,
            workload,
            running.plan_digest.hex(),
            running.host,
            running.clock(),
            attempt=attempts_before(running.catalog, plan, workload) + 1,
            due_at=due_at,
            step="begin",
        )
        runs.begin(running.catalog, run, now=running.clock())
        return _carry_out(running, run, held_file)


def _carry_out(running: Running, run: Run, held_file: HeldFile) -> Run:
    one = _WorkloadRun(running, run, held_file)
    try:
        with _renewed(running, run):
            one.carry_out()
    except KeyboardInterrupt:  # and so Interrupted
        hint = "What is stored stays, and the next run goes on from there."
        one.end(RunState.INTERRUPTED, "was interrupted", hint, retryable=True)
        raise
    except DonjonError as error:
        one.fail(error)
    except BaseException as error:
        one.end(RunState.FAILED, f"a fault of Donjon: {type(error).__name__}", "Please report it.")
        raise
    else:
        one.end(RunState.DONE, "", "")
    return one.run


def _run_id() -> str:
    """Sorts by time, as several runs may begin within one second: milliseconds, and 80 random bits."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


class _WorkloadRun:
    """One run under way, and what is written down of it."""

    def __init__(self, running: Running, run: Run, held_file: HeldFile) -> None:
        self.run = run
        self._running = running
        self._held_file = held_file
        self._rules: Rules = running.plan.rules(run.workload)
        self._notes: list[str] = []
        self._failures: list[DonjonError] = []
        self._places = Places(running.settings, running.plan, self._notes.append)

    def carry_out(self) -> None:
        """All steps. What does not depend on what failed is done; the first failure is raised at the end."""
        self._step("release")
        if told := release_left(self._held_file, self._running.environment):
            self._notes.append(told)
        home, *copies = self._places.of_workload(self.run.workload)
        self._back_up(home)
        for name in copies:
            self._try(f"copy to {name}", partial(self._copy, home, name))
        if self._rules.verify is not None:
            for name in (home, *copies):
                self._try(f"verify {name}", partial(self._verify, home, name))
        if self._failures:
            raise self._failures[0]

    # -- steps -------------------------------------------------------------------------------------

    def _back_up(self, home: str) -> None:
        self._step("open")
        limits = self._rules.limits
        space = self._places.space(home)
        with writing(space, limits.upload if limits else None) as target:
            session = session_name(target.session.writer, target.session.number)
            self.run = replace(self.run, session=session)
            self._step("prepare")
            made: list[Outcome] = []
            try:
                self._read(target, made)
            finally:
                for outcome in made:
                    self._record(target, outcome)
            self._try("look", partial(self._reconcile, target))

    def _read(self, target: Writing, made: list[Outcome]) -> None:
        running, workload = self._running, self.run.workload
        protected = running.plan.workloads[workload]
        quiesce = Quiescing(
            self._rules.hooks,
            self._held_file,
            (self.run.plan, workload),
            environment=running.environment,
            stop=running.stop,
            clock=running.clock,
            notes=self._notes,
        )
        with running.show(f"Backing up {workload}") as progress:
            surroundings = Surroundings(
                running.plan, workload, self._rules, progress, quiesce.check, quiesce, target.own_folders
            )
            with prepare(protected.source, surroundings) as prepared:
                job = Job(prepared.source, workload, running.host, prepared.paths, protected.tags)
                made.append(target.commit(job, progress, quiesce.check))
                self._notes += prepared.warnings
                self._keep_snapshots(prepared)

    def _keep_snapshots(self, prepared: Prepared) -> None:
        policy = self._rules.snapshots
        if policy is None or prepared.provider is None:
            return
        running = self._running
        kept = SnapshotKeeper(running.plan, self.run.workload, policy, running.clock).keep(prepared)
        self._failures += kept.failures
        facts.replace_snapshots(running.catalog, self.run.workload, kept.snapshots, places=kept.places)

    def _record(self, target: Writing, outcome: Outcome) -> None:
        """Write down the point. Its times are the store's, as far as this host may ask."""
        counts = outcome.counts
        time, protected_until = outcome.finished_at, outcome.protected_until
        try:
            info = target.vault.store.head(outcome.manifest)
            time, protected_until = info.stored_at, min(protected_until, info.retain_until or 0)
        except PermissionMissing:
            pass
        point = PointRow(
            outcome.point.hex(),
            target.vault.vault_id.hex(),
            outcome.manifest,
            time,
            self.run.workload,
            counts.size_bytes,
            len(counts.problems),
            self._running.plan.workloads[self.run.workload].tags,
        )
        copy = CopyRow(point.point_id, target.vault.store.url, time, protected_until)
        points.put_points(self._running.catalog, [point], [copy])
        self._notes += outcome.warnings
        self.run = replace(
            self.run,
            point_id=point.point_id,
            unreadable=len(counts.problems),
            counts={
                "files": counts.files,
                "bytes": counts.size_bytes,
                "files_new": counts.files_new,
                "files_changed": counts.files_changed,
                "files_unmodified": counts.files_unmodified,
                "bytes_read": counts.bytes_read,
                "bytes_stored": outcome.bytes_stored,
            },
        )
        self._step("recorded")

    def _reconcile(self, target: Writing) -> None:
        """Learn of points that a run committed and was killed before it wrote them down."""
        running = self._running
        owner = owner_by_sessions(runs.sessions(running.catalog))
        # A writer that may not list learns of them by `donjon catalog rebuild` on a host that may.
        with contextlib.suppress(PermissionMissing):
            found = refresh(running.catalog, target.vault, target.cache.folder, owner)
            self._notes += found.problems

    def _copy(self, home: str, name: str) -> None:
        running, limits = self._running, self._rules.limits
        request = CopyRequest(
            self._places.url(name),
            upload_limit=limits.upload if limits else None,
            credential=self._places.credential(name),
        )
        space = self._places.space(home)
        with running.show(f"Copying to {name}") as progress:
            made = make_copy(space, request, progress, running.stop)
        made.vault.store.close()
        self._notes += made.copied.notes
        opened = self._places.open_copy(name, made.vault.vault_id)
        with opened.store:
            owner = owner_by_sessions(runs.sessions(running.catalog))
            refresh(running.catalog, opened, space.home.cache_path(opened.vault_id), owner)
        if findings := made.copied.findings:
            first = f"{findings[0].object}: {findings[0].what}"
            msg = f"{made.url}: {len(findings)} problems while copying: {first}"
            raise IntegrityFailure(msg, hint="See all with `donjon verify`, here and there.")

    def _verify(self, home: str, name: str) -> None:
        running, wanted = self._running, self._rules.verify
        assert wanted is not None  # noqa: S101  (the caller has looked)
        if not verify_due(running.catalog, self._places, name, wanted, running.clock):
            return
        with running.show(f"Verifying {name}") as progress:
            verify_place(
                running.catalog,
                self._places,
                name,
                home,
                wanted,
                environment=running.environment,
                progress=progress,
            )

    # -- writing down ------------------------------------------------------------------------------

    def _try(self, step: str, work: Callable[[], None]) -> None:
        self._running.stop()
        self._step(step)
        try:
            work()
        except CatalogFailed:
            raise
        except DonjonError as error:
            self._failures.append(error)

    def _step(self, step: str) -> None:
        self.run = replace(self.run, step=step[:32], notes=tuple(self._notes))
        runs.record(self._running.catalog, self.run)

    def fail(self, error: DonjonError) -> None:
        """Write down that it failed."""
        self._notes += [first_line(other) for other in self._failures if other is not error]
        lasting = error.exit_code in _LASTING and not error.retryable
        self.end(RunState.FAILED, error.message, error.hint, retryable=not lasting)

    def end(self, state: RunState, error: str, hint: str, *, retryable: bool = False) -> None:
        """Write down how it ended."""
        self.run = replace(
            self.run,
            state=state,
            ended_at=self._running.clock(),
            error=error,
            hint=hint,
            retryable=retryable,
            notes=tuple(self._notes),
        )
        runs.finish(self._running.catalog, self.run)


@contextmanager
def _renewed(running: Running, run: Run) -> Iterator[None]:
    """Renew the claim in the background, so that no other host takes the workload for given up."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(_RENEW_S):
            with contextlib.suppress(DonjonError):
                runs.renew(running.catalog, run, now=running.clock())

    thread = threading.Thread(target=renew, name="donjon-claim", daemon=True)
    with ExitStack() as stack:
        thread.start()
        stack.callback(thread.join)
        stack.callback(over.set)
        yield


def release_all(running: Running) -> list[str]:
    """Release what killed runs of any plan left at rest; what was done, for people.

    What belongs to a run under way is left to it, and what cannot be released is told and stays.
    """
    told = []
    for plan, workload in running.claims.left():
        try:
            with running.claims.lock(plan, workload) as held_file:
                done = release_left(held_file, running.environment)
        except DonjonError as error:
            if not running.claims.is_running(plan, workload):
                told.append(first_line(error))
            continue
        if done:
            told.append(done)
    return told
