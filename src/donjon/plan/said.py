"""Where a rule of a workload is written: with it, or among the defaults."""

from __future__ import annotations

from donjon.plan.model import Plan
from donjon.plan.problems import Path


def where(plan: Plan, workload: str, field: str, *rest: str | int) -> Path:
    """The place of a rule that holds for a workload; that of the workload if it is nowhere."""
    if field in plan.workloads[workload].model_fields_set:
        return ("workloads", workload, field, *rest)
    if field in plan.defaults.model_fields_set:
        return ("defaults", field, *rest)
    return ("workloads", workload)
