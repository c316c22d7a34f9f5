"""`donjon catalog`: what this installation remembers of runs, points and copies."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from donjon.cli.common import JsonOption, KitOption, PassphraseOption, QuietOption, output, workspace
from donjon.cli.output import one_line
from donjon.cli.plan_files import PlanOption, plan_path
from donjon.core.clock import iso
from donjon.core.units import format_size

_SHOW_EPILOG = """\b
Examples:
  donjon catalog show
  donjon catalog show --runs 100 --json

\b
JSON: {"place", "revision", "points", "copies", "snapshots", "evidence", "restores",
"places": [{"place", "points", "verified_at"}],
"runs": [{"plan", "workload", "run", "state", "attempt", "started", "ended", "step", "point", "error"}]}."""

_UPGRADE_EPILOG = """\b
Examples:
  donjon catalog upgrade

\b
JSON: {"place", "before", "after"}; "before" is null for a catalog that was empty."""

_REBUILD_EPILOG = """\b
Examples:
  donjon catalog rebuild --kit vault.kit      also names and sizes of what is sealed
  donjon catalog rebuild                      without a key, as far as that goes

\b
JSON: {"place", "places", "points", "copies", "snapshots", "evidence", "sealed", "problems"}."""

app = typer.Typer(
    help="What is remembered here of runs, points and copies, in the home or at DONJON_CATALOG.",
    no_args_is_help=True,
)


@app.command("show", epilog=_SHOW_EPILOG)
def show(
    runs: Annotated[int, typer.Option("--runs", metavar="N", min=0, help="How many runs to show.")] = 20,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Show what the catalog holds, and the last runs."""
    from donjon.app.catalog.opening import SHORT_PATIENCE_S, open_catalog
    from donjon.app.catalog.views import view

    out = output(json=json, quiet=quiet)
    found = view(open_catalog(workspace().home, os.environ, patience_s=SHORT_PATIENCE_S), runs)
    data: dict[str, object] = {
        "place": found.place,
        "revision": found.revision,
        **found.counts,
        "places": [
            {"place": one.place, "points": one.points, "verified_at": _time(one.verified_at)}
            for one in found.places
        ],
        "runs": [
            {
                "plan": run.plan,
                "workload": run.workload,
                "run": run.run_id,
                "state": run.state.value,
                "attempt": run.attempt,
                "started": iso(run.started_at),
                "ended": _time(run.ended_at),
                "step": run.step,
                "point": run.point_id or None,
                "error": run.error,
            }
            for run in found.runs
        ],
    }
    lines = [f"{found.place}, revision {found.revision}"]
    lines += [f"  {number:>8} {what}" for what, number in found.counts.items()]
    for place in found.places:
        verified = _time(place.verified_at) or "never"
        lines.append(f"{place.place}: {place.points} points, verified {verified}")
    for run in found.runs:
        size = f"  {format_size(run.counts['bytes'])}" if "bytes" in run.counts else ""
        error = f"  {one_line(run.error)}" if run.error else ""
        lines.append(f"{iso(run.started_at)}  {run.state.value:<12} {run.workload}{size}{error}")
    out.result(data, "\n".join(lines))
    return 0


@app.command("upgrade", epilog=_UPGRADE_EPILOG)
def upgrade(json: JsonOption = False, quiet: QuietOption = False) -> int:
    """Bring the catalog's tables to what this version works with; every command does so by itself."""
    from donjon.app.catalog.opening import upgrade_catalog

    place, before, after = upgrade_catalog(workspace().home, os.environ)
    text = f"{place}: at revision {after}" + (f", from {before or 'nothing'}" if before != after else "")
    output(json=json, quiet=quiet).result({"place": place, "before": before, "after": after}, text)
    return 0


@app.command("rebuild", epilog=_REBUILD_EPILOG)
def rebuild(
    plan: PlanOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Read points, copies, locks and evidence from the vaults of the plan, and snapshots from providers.

    The catalog is a cache: nothing is lost with it but the history of runs. Without a key, points are known,
    but of those that were not made with this catalog neither workload nor size. What the catalog has and
    the vaults do not is forgotten. If a vault cannot be read, nothing is changed.
    """
    from donjon.app.catalog.opening import Places, open_catalog
    from donjon.app.catalog.rebuild import rebuild as read_again
    from donjon.app.plans.files import plan_in_force

    out = output(json=json, quiet=quiet)
    space = workspace(None, kit, passphrase_file)
    in_force, _ = plan_in_force(space.home, plan_path(space.home, plan))
    catalog = open_catalog(space.home, os.environ)
    done = read_again(catalog, Places(space.settings, in_force, out.warn))
    for problem in done.problems:
        out.warn(one_line(problem))
    data = {
        "place": catalog.place,
        "places": done.places,
        "points": done.points,
        "copies": done.copies,
        "snapshots": done.snapshots,
        "evidence": done.evidence,
        "sealed": done.sealed,
        "problems": done.problems,
    }
    text = f"{catalog.place}: {done.points} points, {done.copies} copies in {len(done.places)} places, "
    text += f"{done.snapshots} snapshots, {done.evidence} pieces of evidence"
    if done.sealed:
        text += f"\n  {done.sealed} points are sealed: give --kit FILE to learn their workloads and sizes"
    out.result(data, text)
    return 0


def _time(moment: int | None) -> str | None:
    return None if moment is None else iso(moment)
