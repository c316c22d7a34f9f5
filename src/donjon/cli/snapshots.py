"""`donjon snapshots`: the provider's own snapshots of the workloads of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.common import JsonOption, QuietOption, output, workspace
from donjon.cli.output import one_line
from donjon.cli.plan_files import PlanOption, plan_path
from donjon.core.clock import iso, system_clock
from donjon.core.units import format_duration, format_size, parse_duration

if TYPE_CHECKING:
    from donjon.app.snapshots import Place
    from donjon.core.errors import DonjonError
    from donjon.plan.model import Plan
    from donjon.snapshots.base import Snapshot


_SNAPSHOT_JSON = """{"snapshot", "volume", "workload", "set", "set_size", "moment", "created_at",
"size_bytes", "state", "site", "account", "region", "locked_until", "key", "origin", "detail"}; state is
pending, complete or failed; "locked_until" is null for no lock; "origin" is what a copy was made from, else
null."""

LIST_EPILOG = f"""\b
Examples:
  donjon snapshots list
  donjon snapshots list web --json

\b
JSON: {{"snapshots": [...], "last_good": {{WORKLOAD: {{SITE: SET}}}}}} with each snapshot as
{_SNAPSHOT_JSON}"""

CREATE_EPILOG = """\b
Examples:
  donjon snapshots create web

\b
JSON: {"set", "snapshots": [...], "moments"}, with snapshots as of `donjon snapshots list`."""

DELETE_EPILOG = """\b
Examples:
  donjon snapshots delete web 20261126t055500z-1f2e3d4c
  donjon snapshots delete web --expired --dry-run
      what `keep` of the plan would let go

\b
JSON: {"deleted": [...], "kept": [{"snapshot", "why"}], "dry_run"}, with snapshots as of
`donjon snapshots list`."""

LOCK_EPILOG = """\b
Examples:
  donjon snapshots lock web --for 30d

\b
JSON: {"set", "snapshots": [...]}, with snapshots as of `donjon snapshots list`."""

WorkloadArgument = Annotated[str, typer.Argument(metavar="WORKLOAD", help="Its name in the plan.")]
SiteOption = Annotated[
    str | None,
    typer.Option("--site", metavar="NAME", help="Only there [where it is, and where copies are]."),
]

app = typer.Typer(help="The provider's own snapshots, near production.", no_args_is_help=True)


@app.command("list", epilog=LIST_EPILOG)
def list_(
    workload: Annotated[
        str | None, typer.Argument(metavar="[WORKLOAD]", help="Its name in the plan [all].")
    ] = None,
    site: SiteOption = None,
    plan: PlanOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """List the snapshots that Donjon made of the workloads of the plan, and their copies."""
    from donjon.app.snapshots import has_snapshots
    from donjon.snapshots.expiry import last_good, sets

    out = output(json=json, quiet=quiet)
    chosen = _plan(plan)
    names = [workload] if workload else [n for n, w in chosen.workloads.items() if has_snapshots(w.source)]
    shown: list[dict[str, object]] = []
    good: dict[str, dict[str, str]] = {}
    for name in names:
        for place in _places(chosen, name, site):
            found = list(place.snapshots.list(name))
            for one in last_good(found):
                good.setdefault(name, {})[place.site] = one.set_id
            for members in sets(found):
                shown += [_data(one, place) for one in members]
                out.line(_line(members, place, good.get(name, {}).get(place.site)))
    out.result(
        {"snapshots": shown, "last_good": good}, "" if shown else "There are no snapshots of Donjon's."
    )
    return 0


@app.command("create", epilog=CREATE_EPILOG)
def create(
    workload: WorkloadArgument,
    plan: PlanOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Take snapshots of all volumes of a workload now, and wait until they are complete.

    Hooks are not run: what is taken is as after a power cut. Hooks, locks, copies and how many are kept are
    for a run of the plan.
    """
    import os

    from donjon.app.snapshots import volumes_of
    from donjon.plan.model import SnapshotPolicy
    from donjon.snapshots.marks import new_set_id

    out = output(json=json, quiet=quiet)
    chosen = _plan(plan)
    place = _places(chosen, workload, None, copies=False)[0]
    policy = chosen.rules(workload).snapshots or SnapshotPolicy()
    set_id = new_set_id(system_clock(), os.urandom(4))
    with out.progress("Taking snapshots"):
        volumes = volumes_of(chosen.workloads[workload].source, place.snapshots)
        made = place.snapshots.create(volumes, workload=workload, set_id=set_id)
        done = place.snapshots.wait(made, timeout_s=policy.wait)
    moments = len({one.moment for one in done})
    text = f"Took set {set_id} of {workload}: {_counted(len(done))}"
    if moments > 1:
        text += f", at {moments} moments, one after another"
    data = {"set": set_id, "snapshots": [_data(one, place) for one in done], "moments": moments}
    out.result(data, text)
    return 0


@app.command("delete", epilog=DELETE_EPILOG)
def delete(
    workload: WorkloadArgument,
    set_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[SET]...", help="Which ones; see the listing.")
    ] = None,
    expired: Annotated[
        bool, typer.Option("--expired", help="Those that `keep` of the plan lets go.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be deleted.")] = False,
    site: SiteOption = None,
    plan: PlanOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Delete snapshots that Donjon made: some sets, or those that are too many.

    Never the last good set of a place, nothing that is locked, and nothing without Donjon's marks.
    """
    from donjon.app.snapshots import deletable, delete_all, too_many
    from donjon.core.errors import UsageError
    from donjon.plan.model import SnapshotPolicy

    if bool(set_ids) == expired:
        msg = "it is not clear what is to be deleted"
        raise UsageError(msg, hint="Name sets, or give --expired.")
    out = output(json=json, quiet=quiet)
    chosen = _plan(plan)
    keep = (chosen.rules(workload).snapshots or SnapshotPolicy()).keep
    doomed = [
        (place, one)
        for place in _named(_places(chosen, workload, site), workload, set_ids or [])
        for one in (
            too_many(place, workload, keep=keep, now=system_clock())
            if expired
            else deletable(place, workload, set_ids or [])
        )
    ]
    gone: list[dict[str, object]] = []
    kept: list[tuple[Snapshot, DonjonError]] = []
    for place, one in doomed:
        failures = [] if dry_run else delete_all(place, [one])[1]
        kept += [(one, error) for error in failures]
        gone += [] if failures else [_data(one, place)]
    for one, error in kept:
        out.warn(f"{one.snapshot_id}: kept: {error.message}")
    for one_gone in gone:
        done = "would go" if dry_run else "deleted"
        out.line(f"{done}  {one_line(str(one_gone['snapshot']))}  set {one_gone['set']}")
    data = {
        "deleted": gone,
        "kept": [{"snapshot": one.snapshot_id, "why": error.message} for one, error in kept],
        "dry_run": dry_run,
    }
    out.result(data, f"{_counted(len(gone))} {'would be deleted' if dry_run else 'deleted'}")
    return kept[0][1].exit_code if kept else 0


@app.command("lock", epilog=LOCK_EPILOG)
def lock(
    workload: WorkloadArgument,
    set_id: Annotated[
        str | None, typer.Argument(metavar="[SET]", help="Which one [the newest good one].")
    ] = None,
    time: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="How long from now [`lock` of the plan].")
    ] = None,
    site: SiteOption = None,
    plan: PlanOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Let nobody delete a set before a time, where the provider can. Nobody can take off the lock."""
    from donjon.app.snapshots import members, newest
    from donjon.core.errors import UsageError

    out = output(json=json, quiet=quiet)
    chosen = _plan(plan)
    policy = chosen.rules(workload).snapshots
    duration = parse_duration(time) if time else policy.lock if policy else None
    if not duration:
        msg = f"{workload}: the plan says nothing of locks"
        raise UsageError(msg, hint="Say how long, with --for 30d, or give it `snapshots: {lock: 30d}`.")
    until = system_clock() + duration
    locked: list[tuple[Snapshot, Place]] = []
    for place in _named(_places(chosen, workload, site), workload, [set_id] if set_id else []):
        for one in members(place, workload, [set_id]) if set_id else newest(place, workload):
            locked.append((place.snapshots.lock(one, retain_until=until), place))
    ends = min(one.locked_until for one, _ in locked)
    data = {"set": locked[0][0].set_id, "snapshots": [_data(one, place) for one, place in locked]}
    out.result(data, f"Locked {_counted(len(locked))} for {format_duration(duration)}, until {iso(ends)}")
    return 0


def _plan(option: Path | None) -> Plan:
    from donjon.app.plans.files import plan_in_force

    home = workspace().home
    return plan_in_force(home, plan_path(home, option))[0]


def _places(plan: Plan, workload: str, site: str | None, *, copies: bool = True) -> list[Place]:
    """Where a workload has snapshots; only at ``site`` if one is given."""
    from donjon.app.snapshots import places
    from donjon.core.errors import UsageError

    if workload not in plan.workloads:
        msg = f"the plan has no workload {workload!r}"
        raise UsageError(msg, hint=f"It has {', '.join(sorted(plan.workloads))}.")
    found = places(plan, workload)
    if site is None:
        return found if copies else found[:1]
    if chosen := [place for place in found if place.site == site]:
        return chosen
    msg = f"{workload} has no snapshots at a site {site!r}"
    raise UsageError(msg, hint=f"It has them at {', '.join(place.site for place in found)}.")


def _named(places: Sequence[Place], workload: str, set_ids: Sequence[str]) -> Sequence[Place]:
    """The places that have one of the sets: a set need not have copies everywhere. All of them for no sets.

    If no place has any, all of them, so that the first can tell.
    """
    if not set_ids:
        return places
    found = [
        place for place in places if any(one.set_id in set_ids for one in place.snapshots.list(workload))
    ]
    return found or places


def _line(members: Sequence[Snapshot], place: Place, good: str | None) -> str:
    from donjon.snapshots.expiry import is_whole

    first = members[0]
    state = "whole" if is_whole(members) else min(one.state for one in members)
    if first.set_id == good:
        state = "last good"
    locked = min(one.locked_until for one in members)
    text = (
        f"{first.workload}  {first.set_id}  {iso(min(one.created_at for one in members))}  {state}  "
        f"{len({one.volume_id for one in members})} of {first.set_size} volumes  "
        f"{format_size(sum(one.size_bytes for one in members))}  {place.site or place.snapshots.region}"
    )
    return f"{text}  locked until {iso(locked)}" if locked else text


def _counted(number: int) -> str:
    return f"{number} snapshot{'' if number == 1 else 's'}"


def _data(one: Snapshot, place: Place) -> dict[str, object]:
    return {
        "snapshot": one.snapshot_id,
        "volume": one.volume_id,
        "workload": one.workload,
        "set": one.set_id,
        "set_size": one.set_size,
        "moment": one.moment,
        "created_at": iso(one.created_at),
        "size_bytes": one.size_bytes,
        "state": str(one.state),
        "site": place.site,
        "account": one.account,
        "region": one.region,
        "locked_until": iso(one.locked_until) if one.locked_until else None,
        "key": one.key,
        "origin": one.origin or None,
        "detail": one.detail,
    }
