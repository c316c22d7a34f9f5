"""Which module prepares which kind of workload."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

from donjon.app.kinds.base import Check, Prepared, Surroundings
from donjon.core.errors import UsageError
from donjon.plan.model import Plan
from donjon.plan.workloads import Workload

Prepare = Callable[[Any, Surroundings], AbstractContextManager[Prepared]]

#: Each module has a function ``prepare`` that takes its part of the plan. Loaded when needed.
_MODULES = {
    "azure-disk": "donjon.app.kinds.azure_disk",
    "block": "donjon.app.kinds.block",
    "ebs": "donjon.app.kinds.ebs",
    "gce-disk": "donjon.app.kinds.gce_disk",
    "bucket": "donjon.app.kinds.bucket",
    "command": "donjon.app.kinds.command",
    "postgres": "donjon.app.kinds.postgres",
    "tree": "donjon.app.kinds.tree",
}


def check_online(plan: Plan, workload: str) -> Iterable[Check]:
    """Whether a workload is there and can be read by this host, as its kind can tell without reading it.

    A kind that can has a function ``check_online`` that takes its part of the plan, the plan and the name.
    """
    source = plan.workloads[workload].source
    module = _MODULES.get(source.kind)
    if module is None:
        what = f"workloads of kind {source.kind!r} cannot be backed up yet"
        return [Check(what, False, f"This version backs up: {', '.join(sorted(_MODULES))}.")]
    checked: Callable[[Any, Plan, str], Iterable[Check]] | None
    checked = getattr(import_module(module), "check_online", None)
    return checked(source, plan, workload) if checked else []


def prepare(source: Workload, surroundings: Surroundings) -> AbstractContextManager[Prepared]:
    """Make a workload ready to be read. Raises ``UsageError`` for a kind that this version cannot back up."""
    module = _MODULES.get(source.kind)
    if module is None:
        msg = f"{surroundings.workload}: workloads of kind {source.kind!r} cannot be backed up yet"
        raise UsageError(msg, hint=f"This version backs up: {', '.join(sorted(_MODULES))}.")
    made: Prepare = import_module(module).prepare
    return made(source, surroundings)
