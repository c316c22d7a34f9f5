"""`donjon plan run` and `donjon plan status`: carry out the plan, and tell how its workloads are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.common import (
    JsonOption,
    KitOption,
    PassphraseOption,
    QuietOption,
    VerboseOption,
    output,
    workspace,
)
from donjon.cli.interrupt import stopping
from donjon.cli.output import Output, one_line
from donjon.cli.plan_files import PlanOption, plan_path
from donjon.core.clock import iso, system_clock
from donjon.core.errors import Refused, UsageError
from donjon.core.units import format_duration, format_size

if TYPE_CHECKING:
    from pathlib import Path

    from donjon.app.plans.progress import WorkloadStatus
    from donjon.catalog.database import Catalog
    from donjon.catalog.runs import Run
    from donjon.plan.model import Plan

_UNREADABLE = 3
_MISSED = 4
_OUTLOOK = "What is stored stays, and the next run goes on from there."

RUN_EPILOG = """\b
Examples:
  donjon plan run                 every workload of the plan, one after the other
  donjon plan run web shop        these two
  donjon plan run --due           what the schedule says is due by now, for cron
  donjon plan run web --dry-run   what would be done

\b
JSON: {"plan", "digest", "released", "runs": [{"workload", "run", "state", "attempt", "started", "ended",
"duration_s", "step", "point", "counts", "unreadable", "error", "hint", "notes"}]}; state is done, failed or
interrupted, or skipped if it is being run already; with --dry-run
{"plan", "digest", "dry_run", "workloads": [{"workload", "kind", "steps", "running", "next_due"}]}."""

STATUS_EPILOG = """\b
Examples:
  donjon plan status
  donjon plan status --json | jq '.workloads[] | select(.late)'

\b
JSON: {"plan", "digest", "ok", "workloads": [{"workload", "state", "running", "last_run", "last_done",
"error", "hint", "point", "point_time", "next_due", "reason", "rpo_met", "rto_met", "missing", "debt_s",
"late"}]}."""


@dataclass(frozen=True, slots=True)
class _InForce:
    """The plan that is carried out, and what it was read from."""

    plan: Plan
    digest: bytes
    path: Path
    catalog: Catalog


def run(
    workloads: Annotated[
        list[str] | None, typer.Argument(metavar="WORKLOAD", help="Which workloads [all].")
    ] = None,
    plan: PlanOption = None,
    due: Annotated[bool, typer.Option("--due", help="Only what is due by now.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    due_at: Annotated[int | None, typer.Option("--due-at", hidden=True)] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Run workloads of the plan now: hooks, snapshots, backup, copies, verification.

    A workload that is being run already is left alone. What a killed run left at rest is released first.
    A kit is only used to read data when copies are verified. Ends with 1 if any workload failed, else with 3
    if something could not be read.
    """
    from donjon.app.plans.runs import Running, release_all, run_workload

    out = output(json=json, quiet=quiet, verbose=verbose)
    space = workspace(None, kit, passphrase_file)
    force = _in_force(plan)
    wanted = _wanted(force, workloads, due=due)
    if dry_run:
        return _dry_run(out, force, wanted)
    rows: list[dict[str, object]] = []
    with stopping(_OUTLOOK) as stop:
        running = Running(
            space.settings,
            os.environ,
            force.plan,
            force.digest,
            force.catalog,
            system_clock,
            out.progress,
            stop,
        )
        released = release_all(running)
        out.warn_all(released)
        for workload in wanted:
            stop()
            try:
                rows.append(_told(out, run_workload(running, workload, due_at=due_at)))
            except Refused as error:
                out.warn(f"{error.message}; it is left alone")
                rows.append({"workload": workload, "state": "skipped", "error": error.message})
    text = "\n".join(_line(row) for row in rows) or "Nothing is due"
    head = {"plan": force.plan.name, "digest": force.digest.hex(), "released": released}
    out.result({**head, "runs": rows}, text)
    if any(row["state"] == "failed" for row in rows):
        return 1
    return _UNREADABLE if any(row.get("unreadable") for row in rows) else 0


def status(
    plan: PlanOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Tell of each workload what ran last, what is due next, and whether its objectives are met.

    Ends with 4 if an objective is missed, a copy lacks the newest point, or the last run failed.
    """
    from donjon.app.plans.progress import plan_status

    out = output(json=json, quiet=quiet)
    force = _in_force(plan, patient=False)
    now = system_clock()
    found = plan_status(workspace().settings, force.plan, force.catalog, now)
    rows = [_status_row(one) for one in found]
    late = any(one.is_late or (one.last and one.last.state == "failed") for one in found)
    head = {"plan": force.plan.name, "digest": force.digest.hex(), "ok": not late}
    out.result({**head, "workloads": rows}, "\n".join(_status_lines(one, now) for one in found))
    return _MISSED if late else 0


def _in_force(option: Path | None, *, patient: bool = True) -> _InForce:
    from donjon.app.catalog.opening import SHORT_PATIENCE_S, open_catalog
    from donjon.app.plans.files import plan_in_force
    from donjon.catalog.database import PATIENCE_S

    home = workspace().home
    path = plan_path(home, option)
    plan, digest = plan_in_force(home, path)
    patience_s = PATIENCE_S if patient else SHORT_PATIENCE_S
    return _InForce(plan, digest, path, open_catalog(home, os.environ, patience_s=patience_s))


def _wanted(force: _InForce, names: list[str] | None, *, due: bool) -> list[str]:
    unknown = [name for name in names or () if name not in force.plan.workloads]
    if unknown:
        msg = f"the plan {force.path} has no workload {unknown[0]!r}"
        raise UsageError(msg, hint=f"It has: {', '.join(force.plan.workloads)}.")
    wanted = names or list(force.plan.workloads)
    if not due:
        return wanted
    from donjon.app.plans.histories import history_of
    from donjon.scheduling.due import agenda

    now = system_clock()
    histories = {name: history_of(force.catalog, force.plan.name, name) for name in wanted}
    return [
        one.workload for one in agenda(force.plan, histories, now) if one.at <= now and one.workload in wanted
    ]


def _told(out: Output, run: Run) -> dict[str, object]:
    """The run as a row; what people should know at once goes to them."""
    if run.state != "done":
        out.warn(f"{run.workload}: {one_line(run.error)}. {one_line(run.hint)}")
    out.warn_all([one_line(f"{run.workload}: {note}") for note in run.notes])
    return {
        "workload": run.workload,
        "run": run.run_id,
        "state": run.state.value,
        "attempt": run.attempt,
        "started": iso(run.started_at),
        "ended": None if run.ended_at is None else iso(run.ended_at),
        "duration_s": (run.ended_at or run.started_at) - run.started_at,
        "step": run.step,
        "point": run.point_id or None,
        "counts": dict(run.counts),
        "unreadable": run.unreadable,
        "error": run.error,
        "hint": run.hint,
        "notes": list(run.notes),
    }


def _line(row: dict[str, object]) -> str:
    text = f"{row['state']:<12} {row['workload']}"
    counts = row.get("counts")
    if isinstance(counts, dict) and counts:
        text += f"  point {str(row['point'])[:12]}, {format_size(counts['bytes'])}"
        text += f", stored {format_size(counts['bytes_stored'])}"
    if row.get("unreadable"):
        text += f", {row['unreadable']} items could not be read"
    return text


def _dry_run(out: Output, force: _InForce, wanted: list[str]) -> int:
    from donjon.app.plans.progress import plan_status
    from donjon.app.plans.steps import steps_of

    settings = workspace().settings
    known = {one.workload: one for one in plan_status(settings, force.plan, force.catalog, system_clock())}
    rows, lines = [], []
    for name in wanted:
        found, kind = known[name], force.plan.workloads[name].source.kind
        steps = steps_of(settings, force.plan, name, force.catalog, system_clock())
        next_due = None if found.next_due is None else iso(found.next_due.at)
        row = {"workload": name, "kind": kind, "steps": steps, "running": found.running, "next_due": next_due}
        rows.append(row)
        lines += [f"{name} ({kind})" + (", being run already" if found.running else "")]
        lines += [f"  {step}" for step in steps]
    head = {"plan": force.plan.name, "digest": force.digest.hex(), "dry_run": True}
    out.result({**head, "workloads": rows}, "\n".join(map(one_line, lines)))
    return 0


def _status_row(one: WorkloadStatus) -> dict[str, object]:
    last = one.last
    return {
        "workload": one.workload,
        "state": last.state.value if last else None,
        "running": one.running,
        "last_run": iso(last.started_at) if last else None,
        "last_done": iso(one.last_done.started_at) if one.last_done else None,
        "error": last.error if last else "",
        "hint": last.hint if last else "",
        "point": one.point.point_id if one.point else None,
        "point_time": iso(one.point.time) if one.point else None,
        "next_due": iso(one.next_due.at) if one.next_due else None,
        "reason": one.next_due.reason.value if one.next_due else None,
        "rpo_met": one.rpo_met,
        "rto_met": one.rto_met,
        "missing": list(one.missing),
        "debt_s": one.debt_s,
        "late": one.is_late,
    }


def _status_lines(one: WorkloadStatus, now: int) -> str:
    state = "running" if one.running else one.last.state.value if one.last else "never ran"
    lines = [f"{one.workload:<24} {state}"]
    if one.point:
        lines[0] += (
            f", newest point {iso(one.point.time)}, {format_duration(max(0, now - one.point.time))} old"
        )
    if one.last and one.last.error:
        lines.append(f"  {one_line(one.last.error)}. {one_line(one.last.hint)}")
    if one.rpo_met is False:
        lines.append("  RPO missed" + ("" if one.point else ": there is no point"))
    if one.rto_met is False:
        lines.append("  RTO missed by the last restore that was timed")
    if one.missing:
        lines.append(f"  the newest point is not yet in {', '.join(one.missing)}")
    if one.next_due is not None and one.debt_s:
        lines.append(f"  late by {format_duration(one.debt_s)} ({one.next_due.reason.value})")
    elif one.next_due is not None:
        lines.append(f"  next {iso(one.next_due.at)} ({one.next_due.reason.value})")
    return "\n".join(lines)
