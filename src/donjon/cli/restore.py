"""`donjon restore`: bring a point back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.common import (
    JsonOption,
    KitOption,
    PassphraseOption,
    QuietOption,
    VaultOption,
    VerboseOption,
    output,
    workspace,
)
from donjon.cli.interrupt import stopping
from donjon.cli.output import Output, shown
from donjon.core.units import format_size
from donjon.targets.base import Overwrite

if TYPE_CHECKING:
    from donjon.format.entries import Entry
    from donjon.format.segments import Problem
    from donjon.recovery.request import Request
    from donjon.repository.points import OpenPoint
    from donjon.repository.reading import ChunkReader

_INTEGRITY = 12
_UNREADABLE = 3
_OUTLOOK = "What is restored stays, and the same restore goes on from there."

EPILOG = """\b
Examples:
  donjon restore latest /restore               /srv/web comes to /restore/srv/web
  donjon restore web@latest:/srv/web /srv/web  what is in it, to where it was
  donjon restore latest:/etc/fstab /restore    one file, to /restore/fstab
  donjon restore latest /restore --include '*.sql' --exclude '/srv/old/'
  donjon restore latest / --overwrite if-different --dry-run

\b
JSON: {"dry_run", "files", "directories", "others", "kept", "verified", "bytes",
"problems": [{"path", "reason"}], "damage": [{"path", "reason"}]}; --dry-run has "replaced"
instead of "verified"."""


def restore(
    point: Annotated[
        str, typer.Argument(metavar="POINT[:/PATH]", help="latest, WORKLOAD@latest, WORKLOAD@TIME or an id.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="Folder to restore into; made if necessary.")
    ],
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    include: Annotated[
        list[str] | None,
        typer.Option("--include", metavar="PATTERN", help="Only what matches, as in .gitignore; repeatable."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="PATTERN", help="Not what matches; repeatable."),
    ] = None,
    overwrite: Annotated[
        Overwrite, typer.Option("--overwrite", help="What to do with files that are there.")
    ] = Overwrite.NEVER,
    verify: Annotated[bool, typer.Option("--verify", help="Read every file back and compare.")] = False,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Restore what is undamaged.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Restore a point, or a part of it.

    What is there already stays as it is unless --overwrite says otherwise. Patterns are matched against the
    paths in the point. Ends with 3 if the target refused something, and with 12 if something was damaged.
    """
    from donjon.app.backups import open_named_point, split_name
    from donjon.recovery.plan import choose
    from donjon.recovery.request import Request
    from donjon.recovery.restore import restore as carry_out
    from donjon.targets.tree import TreeTarget

    out = output(json=json, quiet=quiet, verbose=verbose)
    name, under = split_name(point)
    select = choose(tuple(include or ()), tuple(exclude or ()))
    opened = open_named_point(workspace(vault, kit, passphrase_file), name)
    request = Request(opened.point, under, select, overwrite, keep_going=keep_going, verify=verify)
    if dry_run:
        return _dry_run(out, request, opened.reader, target)
    with stopping(_OUTLOOK) as stop, out.progress("Restoring") as progress:
        if not under and select is None:
            progress.total(items=_items(opened.point), size_bytes=opened.point.body.size_bytes)
        tree = TreeTarget(target, overwrite)
        done = carry_out(request, opened.reader, tree, progress, stop)
    out.warn_all([f"{shown(path)}: {reason}" for path, reason in tree.warnings()])
    data = {
        "dry_run": False,
        "files": done.files,
        "directories": done.directories,
        "others": done.others,
        "kept": done.kept,
        "verified": done.verified,
        "bytes": done.size_bytes,
        "problems": _rows(done.problems),
        "damage": _rows(done.damage),
    }
    text = f"Restored {done.files} files, {format_size(done.size_bytes)}; kept {done.kept}"
    if verify:
        text += f"; read back and compared {done.verified}"
    if done.problems or done.damage:
        text += f"; {len(done.problems)} refused by the target, {len(done.damage)} damaged"
    out.result(data, text)
    return _exit_code(done.problems, done.damage)


def _exit_code(problems: list[Problem], damage: list[Problem]) -> int:
    if damage:
        return _INTEGRITY
    return _UNREADABLE if problems else 0


def _items(point: OpenPoint) -> int:
    return point.body.files + point.body.directories + point.body.others


def _rows(problems: list[Problem]) -> list[dict[str, str]]:
    return [{"path": shown(problem.path), "reason": problem.reason} for problem in problems]


def _dry_run(out: Output, request: Request, reader: ChunkReader, target: Path) -> int:
    from donjon.recovery.plan import plan

    def tell(action: str, path: bytes, _: Entry) -> None:
        if out.verbose:
            out.line(f"{action:<8} {shown(path)}")

    planned = plan(request, reader, os.fsencode(target), tell)
    out.warn_all([f"{shown(row.path)}: {row.reason}" for row in (*planned.problems, *planned.damage)])
    data = {
        "dry_run": True,
        "files": planned.files,
        "directories": planned.directories,
        "others": planned.others,
        "replaced": planned.replaced,
        "kept": planned.kept,
        "bytes": planned.size_bytes,
        "problems": _rows(planned.problems),
        "damage": _rows(planned.damage),
    }
    text = f"Would restore {planned.files} files, {format_size(planned.size_bytes)}, and make "
    text += f"{planned.directories} folders; replace {planned.replaced}, keep {planned.kept}"
    if planned.problems or planned.damage:
        text += f"; the target would refuse {len(planned.problems)}, {len(planned.damage)} damaged"
    out.result(data, text)
    return _exit_code(planned.problems, planned.damage)
