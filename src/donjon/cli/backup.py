"""`donjon backup`: make a recovery point."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from donjon.cli.common import JsonOption, QuietOption, VaultOption, VerboseOption, output, workspace
from donjon.cli.interrupt import stopping
from donjon.cli.output import Output, shown
from donjon.core.clock import iso
from donjon.core.errors import UsageError
from donjon.core.units import format_duration, format_size, parse_size

if TYPE_CHECKING:
    from donjon.app.backups import BackupRequest
    from donjon.app.wiring import Workspace
    from donjon.sources.stream import ByteStream

_UNREADABLE = 3
_OUTLOOK = "What is stored stays, and the next backup goes on from there."

EPILOG = """\b
Examples:
  donjon backup /etc /home --exclude '*.tmp' --exclude-caches
  donjon backup /srv/web --workload web --tag before-upgrade
  donjon backup /home --dry-run --verbose      what is new or changed since the last point
  pg_dump shop | donjon backup --stdin shop.sql --workload shop

\b
JSON: {"point", "workload", "time", "files", "directories", "bytes",
"files_new", "files_changed", "files_unmodified", "bytes_read", "bytes_stored",
"duration_s", "errors": [{"path", "reason"}], "warnings"}; with --dry-run
{"dry_run", "workload", "files_new", "files_changed", "files_unmodified", "others", "bytes",
"bytes_to_read", "errors"}."""


def backup(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH", help="Files and folders to back up.")
    ] = None,
    vault: VaultOption = None,
    workload: Annotated[
        str | None, typer.Option("--workload", help="Name of what is protected [HOST:PATHS].")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Label of the point; repeatable.")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="PATTERN", help="As in .gitignore; repeatable.")
    ] = None,
    exclude_file: Annotated[
        list[Path] | None, typer.Option("--exclude-file", metavar="FILE", help="Patterns, one a line.")
    ] = None,
    exclude_caches: Annotated[
        bool, typer.Option("--exclude-caches", help="Skip folders with a valid CACHEDIR.TAG.")
    ] = False,
    one_file_system: Annotated[
        bool, typer.Option("--one-file-system", help="Do not cross into other file systems.")
    ] = False,
    exclude_larger_than: Annotated[
        str | None, typer.Option("--exclude-larger-than", metavar="SIZE", help="Skip larger files: 2G.")
    ] = None,
    stdin: Annotated[
        str | None, typer.Option("--stdin", metavar="NAME", help="Back up standard input as this file.")
    ] = None,
    read_all: Annotated[
        bool, typer.Option("--read-all", help="Read all files again, also unchanged ones.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be read, and write nothing.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Back up files and folders to a new recovery point.

    Only what changed is read, and only what the vault does not have is stored. Nothing on this host can
    open the backup afterwards. Ends with 3 if something could not be read; the rest is kept.
    """
    from donjon.app.backups import BackupRequest, MakeSource, back_up
    from donjon.sources.selection import Selection, read_exclude_file

    out = output(json=json, quiet=quiet, verbose=verbose)
    patterns = [line for file in exclude_file or () for line in read_exclude_file(file)]
    selection = Selection(
        excludes=(*patterns, *(exclude or ())),
        caches=exclude_caches,
        one_file_system=one_file_system,
        larger_than_bytes=parse_size(exclude_larger_than) if exclude_larger_than else None,
    )
    sources = tuple(os.fsencode(path) for path in paths or ())
    make_source: MakeSource
    if stdin is not None:
        if sources:
            msg = "--stdin does not go together with paths"
            raise UsageError(msg, hint="Back them up separately.")
        from donjon.sources.stream import StreamSource

        name = os.fsencode(stdin)
        sources = (b"/" + name.lstrip(b"/"),)
        make_source = lambda _: StreamSource(name, cast("ByteStream", sys.stdin.buffer))  # noqa: E731
    elif sources:
        from donjon.sources.tree import TreeSource

        make_source = lambda own: TreeSource(sources, replace(selection, never=own))  # noqa: E731
    else:
        msg = "nothing to back up"
        raise UsageError(msg, hint="Name files or folders, or use --stdin NAME.")
    absolute = tuple(os.path.abspath(path) for path in sources)  # noqa: PTH100  (bytes, links kept)
    request = BackupRequest(absolute, make_source, workload, tuple(tag or ()), read_all=read_all)
    space = workspace(vault)
    if dry_run:
        if stdin is not None:
            msg = "--dry-run does not go together with --stdin: there is nothing to compare"
            raise UsageError(msg, hint="Leave one of them out.")
        return _dry_run(out, space, request)
    began = time.monotonic()  # the times of the point are those of the store, in whole seconds
    with stopping(_OUTLOOK) as stop, out.progress("Backing up") as progress:
        outcome, name_of_workload = back_up(space, request, progress, stop)
    duration = round(time.monotonic() - began, 3)
    for warning in outcome.warnings:
        out.warn(warning)
    counts = outcome.counts
    data = {
        "point": outcome.point.hex(),
        "workload": name_of_workload,
        "time": iso(outcome.finished_at),
        "files": counts.files,
        "directories": counts.directories,
        "bytes": counts.size_bytes,
        "files_new": counts.files_new,
        "files_changed": counts.files_changed,
        "files_unmodified": counts.files_unmodified,
        "bytes_read": counts.bytes_read,
        "bytes_stored": outcome.bytes_stored,
        "duration_s": duration,
        "errors": [{"path": problem.path, "reason": problem.reason} for problem in counts.problems],
        "warnings": outcome.warnings,
    }
    text = f"""Point {outcome.point.hex()[:12]} of {name_of_workload}
  files   {counts.files_new} new, {counts.files_changed} changed, {counts.files_unmodified} unmodified
  size    {format_size(counts.size_bytes)}
  read    {format_size(counts.bytes_read)}, stored {format_size(outcome.bytes_stored)}
  time    {format_duration(duration)}"""
    if counts.problems:
        text += f"\n  {len(counts.problems)} items could not be read; `donjon points --problems` lists them"
    out.result(data, text)
    return _UNREADABLE if counts.problems else 0


def _dry_run(out: Output, space: Workspace, request: BackupRequest) -> int:
    from donjon.app.backups import preview_backup

    def tell(what: str, path: bytes) -> None:
        if out.verbose:
            out.line(f"{what:<8} {shown(path)}")

    found, workload = preview_backup(space, request, tell)
    data = {
        "dry_run": True,
        "workload": workload,
        "files_new": found.files_new,
        "files_changed": found.files_changed,
        "files_unmodified": found.files_unmodified,
        "others": found.others,
        "bytes": found.size_bytes,
        "bytes_to_read": found.bytes_to_read,
        "errors": [{"path": shown(path), "reason": reason} for path, reason in found.problems],
    }
    out.warn_all([f"{shown(path)}: {reason}" for path, reason in found.problems])
    text = f"Would read {found.files_new} new and {found.files_changed} changed files, "
    text += f"{format_size(found.bytes_to_read)}; {found.files_unmodified} are unmodified"
    out.result(data, text)
    return _UNREADABLE if found.problems else 0
