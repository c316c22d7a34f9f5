"""`donjon find`: which points have what."""

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
from donjon.cli.items import item_data, item_line
from donjon.cli.points import SinceOption, TagOption, UntilOption, WorkloadOption
from donjon.core.clock import iso, system_clock

if TYPE_CHECKING:
    from donjon.app.find import Version

_INTEGRITY = 12

EPILOG = """\b
Examples:
  donjon find '*.kdbx'                     by name, in all points
  donjon find '/srv/web/*.php' --newer 2d  by path: * takes slashes too
  donjon find --type f --size +100M --point latest

\b
JSON: {"matches": [{"path", "type", "size", "mtime", ..., "points": [{"id",
"time"}]}], "damaged": [...]}; one match for each version of an item."""


def find(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="Glob on names or, with a slash, on paths.")
    ] = "*",
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    point: Annotated[str | None, typer.Option("--point", metavar="POINT", help="In this one only.")] = None,
    workload: WorkloadOption = None,
    tag: TagOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    size: Annotated[
        list[str] | None,
        typer.Option("--size", metavar="+N|-N", help="Files of at least, at most: +10M, -1K; repeatable."),
    ] = None,
    newer: Annotated[
        str | None, typer.Option("--newer", metavar="TIME", help="Modified from then on; 2d for 2 days ago.")
    ] = None,
    older: Annotated[str | None, typer.Option("--older", metavar="TIME", help="Modified until then.")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="f|d|l|s", help="File, directory, link, special; repeatable."),
    ] = None,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", "-i", help="Upper or lower case.")] = False,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Find files by name, path, size, time and type, and say which points have them.

    Each version of an item is listed once, with the points that have just that version. Metadata that
    points share is read once, and no file is read. Ends with 12 if part of it is damaged.
    """
    from donjon.app.find import Question, parse_kinds, parse_sizes
    from donjon.app.find import find as search
    from donjon.app.queries import PointFilter, open_wanted, parse_since, parse_until

    out = output(json=json, verbose=verbose)
    now = system_clock()
    least, most = parse_sizes(size or ())
    question = Question(
        pattern,
        least,
        most,
        parse_since(newer, now) if newer else None,
        parse_until(older, now) if older else None,
        parse_kinds(kind or ()),
        ignore_case,
    )
    wanted = PointFilter(
        workload,
        tuple(tag or ()),
        parse_since(since, now) if since else None,
        parse_until(until, now) if until else None,
    )
    space = workspace(vault, kit, passphrase_file)
    opened = space.open_for_reading()
    answer = search(open_wanted(opened, wanted, point), question, space.reader(opened))
    with out.json_list({}, "matches") as matches:
        for version in answer.versions:
            if json:
                matches.add(_data(version))
            else:
                out.line(item_line(version.path, version.entry))
                out.line(f"    {_points(version, verbose)}")
        if answer.damage:
            matches.tail["damaged"] = [error.message for error in answer.damage]
    for error in answer.damage:
        out.warn(f"not searched: {error.message}")
    return _INTEGRITY if answer.damage else 0


def _data(version: Version) -> dict[str, object]:
    points = [{"id": found.point_id.hex(), "time": iso(found.point.time)} for found in version.points]
    return item_data(version.path, version.entry) | {"points": points}


def _points(version: Version, verbose: bool) -> str:
    names = [f"{found.point_id.hex()[:12]} ({iso(found.point.time)})" for found in version.points]
    if verbose or len(names) < 3:
        return "in " + ", ".join(names)
    return f"in {len(names)} points, {names[0]} to {names[-1]}"
