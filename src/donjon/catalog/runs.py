"""Runs of workloads: who runs what, and what became of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from sqlalchemy import Connection, Row, delete, select, text, update

from donjon.catalog.database import Catalog, upsert
from donjon.catalog.tables import CLAIMS, RUNS
from donjon.core.errors import Refused

#: The claim of another host ends so long after it was last renewed.
CLAIM_S: Final = 600
_TAKEN_OVER = "its process ended without telling how"


class RunState(enum.StrEnum):
    """What became of a run."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a workload. Times are in Unix seconds.

    ``due_at`` is the time that it was due at, None if somebody started it. ``attempt`` counts from 1 the runs
    for one time. ``step`` is what it does, or did last. ``session`` tells where in the vault its data goes.
    ``point_id`` is the point that it made, or empty; the run may fail after that. ``notes`` are for people:
    warnings, and what hooks said.
    """

    run_id: str
    plan: str
    workload: str
    plan_digest: str
    host: str
    started_at: int
    state: RunState = RunState.RUNNING
    attempt: int = 1
    due_at: int | None = None
    ended_at: int | None = None
    step: str = ""
    error: str = ""
    hint: str = ""
    retryable: bool = False
    session: str = ""
    point_id: str = ""
    unreadable: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


def begin(catalog: Catalog, run: Run, *, now: int) -> list[Run]:
    """Claim the workload and write down that it runs; the runs that were taken over, as interrupted.

    Whoever calls this holds the lock of the workload on this host: a claim of this host is then one of a dead
    process. Raises ``Refused`` if another host runs the workload.
    """

    def work(connection: Connection) -> list[Run]:
        if connection.dialect.name == "postgresql":  # SQLite: whoever writes is alone already
            connection.execute(text("LOCK TABLE claims IN EXCLUSIVE MODE"))
        key = (CLAIMS.c.plan == run.plan) & (CLAIMS.c.workload == run.workload)
        claim = connection.execute(select(CLAIMS).where(key)).one_or_none()
        if claim and claim.host != run.host and claim.expires_at > now:
            msg = f"{run.workload}: is being run by {claim.host}"
            hint = "Wait until it has finished; a host that has died is given up after 10 minutes."
            raise Refused(msg, hint=hint)
        left = [one for one in _left_running(connection, run) if one.run_id != run.run_id]
        ended = {"state": RunState.INTERRUPTED.value, "ended_at": now, "retryable": True}
        dead = RUNS.c.run_id.in_([one.run_id for one in left])
        connection.execute(update(RUNS).where(dead).values(**ended, error=_TAKEN_OVER))
        _put_claim(connection, run, now)
        upsert(connection, RUNS, [_row(run)])
        return left

    return catalog.write(work)


def renew(catalog: Catalog, run: Run, *, now: int) -> None:
    """Let the claim go on for another ``CLAIM_S`` seconds."""
    catalog.write(lambda connection: _put_claim(connection, run, now))


def record(catalog: Catalog, run: Run) -> None:
    """Write down how far a run is."""
    catalog.write(lambda connection: upsert(connection, RUNS, [_row(run)]))


def finish(catalog: Catalog, run: Run) -> None:
    """Write down how a run ended, and give up its claim."""

    def work(connection: Connection) -> None:
        upsert(connection, RUNS, [_row(run)])
        connection.execute(delete(CLAIMS).where(CLAIMS.c.run_id == run.run_id))

    catalog.write(work)


def recent(catalog: Catalog, plan: str, workload: str, limit: int = 20) -> list[Run]:
    """The last runs of a workload, newest first."""
    wanted = (RUNS.c.plan == plan) & (RUNS.c.workload == workload)
    order = (RUNS.c.started_at.desc(), RUNS.c.run_id.desc())
    query = select(RUNS).where(wanted).order_by(*order).limit(limit)
    return catalog.read(lambda connection: [_run(row) for row in connection.execute(query)])


def last_done(catalog: Catalog, plan: str, workload: str) -> Run | None:
    """The last run of a workload that came to its end."""
    wanted = (RUNS.c.plan == plan) & (RUNS.c.workload == workload) & (RUNS.c.state == RunState.DONE.value)
    query = select(RUNS).where(wanted).order_by(RUNS.c.started_at.desc()).limit(1)
    return catalog.read(lambda connection: next((_run(row) for row in connection.execute(query)), None))


def newest(catalog: Catalog, limit: int) -> list[Run]:
    """The last runs of all workloads, newest first."""
    query = select(RUNS).order_by(RUNS.c.started_at.desc(), RUNS.c.run_id.desc()).limit(limit)
    return catalog.read(lambda connection: [_run(row) for row in connection.execute(query)])


def sessions(catalog: Catalog) -> dict[str, str]:
    """Which workload was being run in each session."""
    query = select(RUNS.c.session, RUNS.c.workload).where(RUNS.c.session != "")
    return catalog.read(lambda connection: {row.session: row.workload for row in connection.execute(query)})


def forget_before(catalog: Catalog, time: int) -> int:
    """Forget runs that ended before ``time``; how many."""
    query = delete(RUNS).where(RUNS.c.ended_at < time)
    return catalog.write(lambda connection: connection.execute(query).rowcount)


def _left_running(connection: Connection, run: Run) -> list[Run]:
    wanted = (RUNS.c.plan == run.plan) & (RUNS.c.workload == run.workload)
    query = select(RUNS).where(wanted & (RUNS.c.state == RunState.RUNNING.value))
    return [_run(row) for row in connection.execute(query)]


def _put_claim(connection: Connection, run: Run, now: int) -> None:
    claim = {"plan": run.plan, "workload": run.workload, "run_id": run.run_id, "host": run.host}
    upsert(connection, CLAIMS, [claim | {"expires_at": now + CLAIM_S}])


def _row(run: Run) -> dict[str, object]:
    return asdict(run) | {
        "state": run.state.value,
        "counts": dict(run.counts),
        "notes": list(run.notes),
    }


def _run(row: Row[tuple[object, ...]]) -> Run:
    values = dict(row._mapping)  # noqa: SLF001  (SQLAlchemy's public way to the names of columns)
    return Run(**values | {"state": RunState(values["state"]), "notes": tuple(values["notes"])})
