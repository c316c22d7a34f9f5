"""`donjon points`: list recovery points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.common import (
    JsonOption,
    KitOption,
    PassphraseOption,
    VaultOption,
    VerboseOption,
    output,
    workspace,
)
from donjon.cli.output import Output, shown
from donjon.cli.permits import mark_data
from donjon.core.clock import iso, system_clock
from donjon.core.units import format_size

if TYPE_CHECKING:
    from donjon.app.queries import ListedPoint, Listing
    from donjon.app.wiring import Workspace

_INTEGRITY = 12

EPILOG = """\b
Examples:
  donjon points --workload web --since 7d
  donjon points latest --problems
      what could not be read when the newest point was made

\b
JSON: {"points": [{"id", "workload", "time", "files", "bytes", "locked_until",
"tags", "host", "errors", "writer", "suspect": [{"verdict", "signed", "signer", "role", "name", "reason"}],
...}], "lock_enforcement"}; what is sealed is null, and "suspect" is empty unless the point is marked."""

SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="From then on: 2026-11-23T10:00, or 7d for ago.")
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Until then, included.")]
WorkloadOption = Annotated[str | None, typer.Option("--workload", help="Points of this workload only.")]
TagOption = Annotated[
    list[str] | None, typer.Option("--tag", help="Points with this label only; repeatable, all are needed.")
]


def points(
    point: Annotated[str | None, typer.Argument(metavar="POINT", help="Only this one.")] = None,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    workload: WorkloadOption = None,
    tag: TagOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    problems: Annotated[
        bool, typer.Option("--problems", help="List what could not be read for each point.")
    ] = False,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> int:
    """List recovery points, newest last. Times are those at which the store received them.

    Those that an auditor or a custodian marked are SUSPECT (see `donjon verdict`). Without a key, ids, times
    and locks are listed; workloads, sizes and tags are sealed. Ends with 12 if a point is damaged.
    """
    from donjon.app.locks import WEAKNESS, lock_enforcement
    from donjon.app.queries import PointFilter, list_wanted, parse_since, parse_until

    out = output(json=json, verbose=verbose)
    space = workspace(vault, kit, passphrase_file)
    now = system_clock()
    wanted = PointFilter(
        workload,
        tuple(tag or ()),
        parse_since(since, now) if since else None,
        parse_until(until, now) if until else None,
        opened=problems,
    )
    listing = list_wanted(space, wanted, point)
    listed_problems = _problems(space, listing) if problems else {}
    rows = []
    for listed in listing.points:
        row = _row(listed)
        if problems:
            row["problems"] = listed_problems[listed.point.point_id]
        rows.append(row)
    enforcement = lock_enforcement(listing.vault)
    data: dict[str, object] = {"points": rows, "lock_enforcement": enforcement}
    if listing.damaged:
        data["damaged"] = [error.message for error in listing.damaged]
    out.result(data, "")
    if not json:
        _print_table(out, rows, listing)
        if rows and (weakness := WEAKNESS.get(enforcement or "")):
            out.line(f"Locks are {enforcement}: {weakness}.")
    for error in listing.damaged:
        out.warn(f"{error.message}; see `donjon verify`")
    return _INTEGRITY if listing.damaged else 0


def _row(listed: ListedPoint) -> dict[str, object]:
    manifest, body = listed.point.manifest, listed.body
    row: dict[str, object] = {
        "id": listed.point.point_id.hex(),
        "workload": None,
        "time": iso(listed.point.time),
        "files": None,
        "bytes": None,
        "locked_until": iso(listed.protected_until) if listed.protected_until else None,
        "tags": None,
        "host": None,
        "errors": None,
        "writer": manifest.writer.hex(),
        "writer_name": listed.writer or None,
        "sequence": manifest.sequence,
        "suspect": [mark_data(mark) for mark in listed.marks],
    }
    if body is not None:
        row |= {
            "workload": body.workload,
            "files": body.files,
            "bytes": body.size_bytes,
            "tags": list(body.tags),
            "host": body.host,
            "errors": body.problem_count,
            "directories": body.directories,
            "others": body.others,
            "bytes_stored": body.bytes_stored,
            "sources": [shown(source) for source in body.sources],
            "started_at": iso(body.started_at),
            "finished_at": iso(body.finished_at),
            "program": body.program,
        }
    return row


def _problems(space: Workspace, listing: Listing) -> dict[bytes, list[dict[str, str]]]:
    from donjon.app.queries import point_problems

    reader = space.reader(listing.vault)
    return {
        listed.point.point_id: [
            {"path": shown(problem.path), "reason": problem.reason}
            for problem in point_problems(listed.point, listed.body, reader)
        ]
        for listed in listing.points
        if listed.body is not None
    }


def _print_table(out: Output, rows: list[dict[str, object]], listing: Listing) -> None:
    if not rows:
        out.line("No points.")
        return
    head: tuple[str, ...] = ("POINT", "TIME", "FILES", "SIZE", "ERRORS", "LOCKED UNTIL", "WORKLOAD")
    table = [head] + [_cells(row, out.verbose) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells, row in zip(table, [None, *rows], strict=True):
        padded = [
            cell.rjust(width) if 2 <= i <= 4 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        out.line("  ".join(padded).rstrip())
        found = row.get("problems") if row else None
        for problem in found if isinstance(found, list) else ():
            out.line(f"    {problem['path']}: {problem['reason']}")
    if listing.sealed:
        out.line(
            f"{listing.sealed} of them stay sealed: names, sizes and tags need the kit "
            "(--kit FILE or DONJON_KIT) or --passphrase-file."
        )


def _cells(row: dict[str, object], verbose: bool) -> tuple[str, ...]:
    tags, size = row["tags"], row["bytes"]
    labels = " ".join(f"[{tag}]" for tag in tags) if isinstance(tags, list) else ""
    identity = str(row["id"])
    return (
        identity if verbose else identity[:12],
        str(row["time"]),
        "-" if row["files"] is None else str(row["files"]),
        format_size(size) if isinstance(size, int) else "-",
        str(row["errors"] or "-"),
        str(row["locked_until"] or "not locked"),
        f"{row['workload'] or '(sealed)'} {labels}".rstrip() + ("  SUSPECT" if row["suspect"] else ""),
    )
