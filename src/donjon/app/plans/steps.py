"""What running a workload would do, in words; for people who want to know before."""

from __future__ import annotations

import shlex

from donjon.app.catalog.opening import Places
from donjon.app.config import Settings
from donjon.app.plans.checks import verify_due
from donjon.catalog.database import Catalog
from donjon.core.units import format_duration, format_size
from donjon.plan.model import Plan


def steps_of(settings: Settings, plan: Plan, workload: str, catalog: Catalog, now: int) -> list[str]:
    """The steps in order. Raises ``UsageError`` for what could not be carried out at all."""
    places = Places(settings, plan, lambda _: None)
    rules = plan.rules(workload)
    home, *copies = places.of_workload(workload)
    steps = []
    hooks = rules.hooks
    if hooks and hooks.before:
        steps.append(f"run {shlex.join(hooks.before)}, for at most {format_duration(hooks.timeout)}")
    limit = rules.limits.upload if rules.limits else None
    pace = f", at most {format_size(limit)}/s" if limit else ""
    steps.append(f"back up to {home} ({places.url(home)}){pace}")
    if hooks and hooks.after:
        steps.append(f"run {shlex.join(hooks.after)}, whatever happens")
    if rules.snapshots:
        steps.append(f"keep {rules.snapshots.keep} sets of snapshots, if this kind takes any")
        steps += [f"copy them to the site {site}" for site in rules.snapshots.copy_to]
    steps += [f"copy to {name} ({places.url(name)}){pace}" for name in copies]
    if rules.verify:
        wanted = rules.verify
        steps += [
            f"verify {name}"
            for name in (home, *copies)
            if verify_due(catalog, places, name, wanted, lambda: now)
        ]
    return steps
