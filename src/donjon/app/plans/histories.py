"""What became of workloads so far, as ``scheduling.due`` wants to know it."""

from __future__ import annotations

from collections.abc import Sequence

from donjon.catalog import points, runs
from donjon.catalog.database import Catalog
from donjon.catalog.runs import Run, RunState
from donjon.scheduling.due import History

#: More than the most retries that a plan can want.
_LOOKED_AT = 120


def history_of(catalog: Catalog, plan: str, workload: str) -> History:
    """The history of a workload. Of a catalog that was rebuilt, which knows no runs, the points tell."""
    found = runs.recent(catalog, plan, workload, _LOOKED_AT)
    if not found:
        point = points.newest_point(catalog, workload)
        return History(last_started_at=point.time, last_succeeded_at=point.time) if point else History()
    newest, done = found[0], runs.last_done(catalog, plan, workload)
    return History(
        last_started_at=newest.started_at,
        last_succeeded_at=done.started_at if done else None,
        last_ended_at=newest.ended_at,
        failures=_failures(found),
        # One that still seems to run was killed, if nobody has its lock: that may be tried again.
        can_retry=newest.retryable or newest.state is RunState.RUNNING,
    )


def attempts_before(catalog: Catalog, plan: str, workload: str) -> int:
    """How many runs have failed since the last that came to its end."""
    return _failures(runs.recent(catalog, plan, workload, _LOOKED_AT))


def _failures(newest_first: Sequence[Run]) -> int:
    done = (number for number, run in enumerate(newest_first) if run.state is RunState.DONE)
    return next(done, len(newest_first))
