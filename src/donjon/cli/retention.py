"""`donjon retention`: what a policy keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.common import (
    JsonOption,
    KitOption,
    PassphraseOption,
    QuietOption,
    VaultOption,
    output,
    workspace,
)
from donjon.core.clock import iso

if TYPE_CHECKING:
    from donjon.custody.standing import Standing

KeepOption = Annotated[
    list[str] | None,
    typer.Option(
        "--keep",
        metavar="RULE",
        help="last=N, hourly=N, daily=N, weekly=N, monthly=N, yearly=N or within=TIME; repeatable "
        "[everything].",
    ),
]

_EPILOG = """\b
Examples:
  donjon retention preview --keep daily=30 --keep monthly=12
  donjon retention preview --keep last=3 --keep within=90d --kit vault.kit
      counts for each workload, whose names only a key shows

\b
JSON: {"policy", "points": [{"id", "time", "workload", "stays", "reasons", "locked_until",
"state", "given_up"}], "stay", "go"}; state is live, locked, ending or expired."""

app = typer.Typer(help="See what a retention policy keeps.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("preview", epilog=_EPILOG)
def preview(
    keep: KeepOption = None,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Show which points would stay and go, and why. Changes nothing.

    The newest points count first, for each writer on its own; with a key for each writer and workload. A
    point that goes is not deleted: custody stops extending its locks, and once they have ended it may be
    reaped. A point whose time is in the future, or that came after its writer was revoked, takes no place.
    """
    from donjon.app.custody import preview as look
    from donjon.plan.retention import parse_policy

    out = output(json=json, quiet=quiet)
    policy = parse_policy(keep or ())
    with out.progress("Looking") as progress:
        view = look(workspace(vault, kit, passphrase_file), policy, progress)
    rows = []
    for standing in view.standings:
        state = _state(standing)
        row = {
            "id": standing.point.point_id.hex(),
            "time": iso(standing.point.time),
            "workload": view.workloads.get(standing.point.point_id),
            "stays": standing.is_live,
            "reasons": list(standing.reasons),
            "locked_until": iso(standing.locked_until) if standing.locked_until else None,
            "state": state,
            "given_up": standing.is_deleted,
        }
        rows.append(row)
        why = ", ".join(standing.reasons) or _WHY_GONE[state]
        why = f"approvers gave it up; {why}" if standing.is_deleted else why
        workload = f"  {row['workload']}" if row["workload"] else ""
        mark = "stays" if standing.is_live else "goes "
        out.line(f"{mark}  {standing.point.point_id.hex()[:12]}  {row['time']}{workload}  {why}")
    stay = sum(standing.is_live for standing in view.standings)
    data = {"policy": str(policy), "points": rows, "stay": stay, "go": len(rows) - stay}
    out.result(data, f"{stay} points stay, {len(rows) - stay} go, under the policy: {policy}")
    for error in view.damaged:
        out.warn(f"{error.message}; see `donjon verify`")
    return 0


def _state(standing: Standing) -> str:
    if standing.is_live:
        return "live"
    if standing.is_expired:
        return "expired"
    return "locked" if standing.is_held else "ending"


_WHY_GONE = {
    "locked": "nothing wants it, but its lock holds",
    "ending": "nothing wants it, and its lock has ended",
    "expired": "its data is gone",
}
