"""How the workloads of a plan are: what ran last, what is due, which objectives are met."""

from __future__ import annotations

from dataclasses import dataclass

from donjon.app.catalog.opening import Places
from donjon.app.config import Settings
from donjon.app.plans.claims import Claims
from donjon.app.plans.histories import history_of
from donjon.catalog import facts, points, runs
from donjon.catalog.database import Catalog
from donjon.catalog.points import CopyRow, PointRow
from donjon.catalog.runs import Run
from donjon.plan.model import Plan, Rules
from donjon.scheduling.due import Due, due


@dataclass(frozen=True, slots=True)
class WorkloadStatus:
    """How a workload is. Times are in Unix seconds; an objective that the plan does not set is None.

    ``missing`` are the vaults of the plan that lack the newest point, or hold it unverified for too long.
    ``rpo_met`` tells whether the newest point that counts is young enough, ``rto_met`` whether the last timed
    restore was short enough. ``debt_s`` is by how much the workload is late.
    """

    workload: str
    last: Run | None
    last_done: Run | None
    running: bool
    next_due: Due | None
    point: PointRow | None
    missing: tuple[str, ...]
    rpo_met: bool | None
    rto_met: bool | None
    debt_s: int

    @property
    def is_late(self) -> bool:
        """Whether an objective is missed."""
        return self.rpo_met is False or self.rto_met is False or bool(self.missing)


def plan_status(settings: Settings, plan: Plan, catalog: Catalog, now: int) -> list[WorkloadStatus]:
    """How each workload is, as the catalog knows it. No vault and no provider is asked."""
    places = Places(settings, plan, lambda _: None)
    claims = Claims(settings.home)
    return [_status(places, claims, catalog, workload, now) for workload in plan.workloads]


def _status(places: Places, claims: Claims, catalog: Catalog, workload: str, now: int) -> WorkloadStatus:
    plan = places.plan
    rules = plan.rules(workload)
    found = runs.recent(catalog, plan.name, workload, 1)
    point = points.newest_point(catalog, workload)
    next_due = due(rules, workload, history_of(catalog, plan.name, workload), now)
    running = claims.is_running(plan.name, workload)
    late = 0 if running or next_due is None else max(0, now - next_due.at)
    return WorkloadStatus(
        workload,
        found[0] if found else None,
        runs.last_done(catalog, plan.name, workload),
        running,
        next_due,
        point,
        tuple(_missing(places, catalog, workload, point)),
        None if rules.rpo is None else point is not None and now - point.time <= rules.rpo,
        _rto_met(catalog, workload, rules),
        late,
    )


def _missing(places: Places, catalog: Catalog, workload: str, point: PointRow | None) -> list[str]:
    if point is None:
        return []
    copies: list[CopyRow] = points.list_copies(catalog, workload)
    there = {copy.place for copy in copies if copy.point_id == point.point_id}
    return [name for name in places.of_workload(workload) if places.url(name) not in there]


def _rto_met(catalog: Catalog, workload: str, rules: Rules) -> bool | None:
    timed = facts.list_restores(catalog, workload)
    if rules.rto is None or not timed:
        return None
    return timed[-1].passed and timed[-1].duration_s <= rules.rto
