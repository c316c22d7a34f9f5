"""`donjon backup`: make a recovery point."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.backup_source import BlockNamed, BucketVersions, Named, Settings, request_for
from donjon.cli.common import JsonOption, QuietOption, VaultOption, VerboseOption, output, workspace
from donjon.cli.interrupt import stopping
from donjon.cli.output import Output, shown
from donjon.core.clock import iso
from donjon.core.errors import UsageError
from donjon.core.events import never_stop
from donjon.core.units import format_duration, format_size, parse_size

if TYPE_CHECKING:
    from donjon.app.backups import BackupRequest
    from donjon.app.wiring import Workspace

_UNREADABLE = 3


_OUTLOOK = "What is stored stays, and the next backup goes on from there."

EPILOG = """\b
Examples:
  donjon backup /etc /home --exclude '*.tmp' --exclude-caches
  donjon backup /srv/web --workload web --tag before-upgrade
  donjon backup /home --compact 30             leaves packs behind of which less than 30 % is needed
  donjon backup /home --dry-run --verbose      what is new or changed since the last point
  donjon backup --device /dev/vg0/snapshot-of-db
  donjon backup --ebs-snapshot snap-0a1b2c3d4e5f60718 --workload db
  donjon backup --azure-snapshot "$(az snapshot show -g db -n old --query id -o tsv)" --workload db
  donjon backup --bucket s3://photos/2026 --versions all
  pg_dump shop | donjon backup --stdin shop.sql --workload shop

\b
JSON: {"point", "workload", "time", "files", "directories", "bytes",
"files_new", "files_changed", "files_unmodified", "bytes_read", "bytes_stored",
"duration_s", "errors": [{"path", "reason"}], "warnings", "packs_left"}; with --dry-run
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
    device: Annotated[
        list[str] | None,
        typer.Option("--device", metavar="DEVICE", help="Back up a block device or image file; repeatable."),
    ] = None,
    even_mounted: Annotated[
        bool, typer.Option("--even-mounted", help="Read devices that are mounted for writing, too.")
    ] = False,
    zero_bad_sectors: Annotated[
        bool, typer.Option("--zero-bad-sectors", help="Store zeros for what a device cannot read.")
    ] = False,
    changed_blocks: Annotated[
        Path | None,
        typer.Option("--changed-blocks", metavar="FILE", help="What has changed on the one device."),
    ] = None,
    ebs_snapshot: Annotated[
        list[str] | None,
        typer.Option("--ebs-snapshot", metavar="ID", help="Back up the volume of a snapshot; repeatable."),
    ] = None,
    azure_snapshot: Annotated[
        list[str] | None,
        typer.Option(
            "--azure-snapshot", metavar="ID", help="Back up the managed disk of a snapshot; repeatable."
        ),
    ] = None,
    stdin: Annotated[
        str | None, typer.Option("--stdin", metavar="NAME", help="Back up standard input as this file.")
    ] = None,
    bucket: Annotated[
        str | None,
        typer.Option("--bucket", metavar="URL", help="Back up the objects of s3://…, azure://… or gs://…."),
    ] = None,
    versions: Annotated[
        BucketVersions,
        typer.Option("--versions", help="With --bucket: older versions and delete markers, too."),
    ] = BucketVersions.CURRENT,
    read_all: Annotated[
        bool, typer.Option("--read-all", help="Read all files again, also unchanged ones.")
    ] = False,
    compact: Annotated[
        float,
        typer.Option(
            "--compact",
            metavar="PERCENT",
            min=0,
            max=90,
            help="Store again what lies in packs of which less than this is needed.",
        ),
    ] = 0,
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

    With --device, a whole disk becomes one file of the point, holes left out. Read an LVM snapshot, or a disk
    that nobody writes to: of one that is in use, the parts would be of different moments.

    With --compact, say once a month, half-empty packs are left behind, so that they go once older points have
    gone. What they hold of this point is read and stored again.
    """
    from donjon.app.backups import back_up
    from donjon.sources.selection import Selection, read_exclude_file

    out = output(json=json, quiet=quiet, verbose=verbose)
    patterns = [line for file in exclude_file or () for line in read_exclude_file(file)]
    selection = Selection(
        excludes=(*patterns, *(exclude or ())),
        caches=exclude_caches,
        one_file_system=one_file_system,
        larger_than_bytes=parse_size(exclude_larger_than) if exclude_larger_than else None,
    )
    space = workspace(vault)
    if dry_run and stdin is not None:
        msg = "--dry-run does not go together with --stdin: there is nothing to compare"
        raise UsageError(msg, hint="Leave one of them out.")
    block = BlockNamed(tuple(device or ()), even_mounted, zero_bad_sectors, changed_blocks)
    snapshots = tuple(ebs_snapshot or ()), tuple(azure_snapshot or ())
    named = Named(tuple(paths or ()), selection, block, *snapshots, stdin, bucket, versions)
    settings = Settings(workload, tuple(tag or ()), read_all=read_all, compact_percent=compact)
    if dry_run:
        with request_for(named, settings, never_stop) as request:
            return _dry_run(out, space, request)
    began = time.monotonic()  # the times of the point are those of the store, in whole seconds
    with (
        stopping(_OUTLOOK) as stop,
        out.progress("Backing up") as progress,
        request_for(named, settings, stop) as request,
    ):
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
        "packs_left": outcome.packs_left,
    }
    text = f"""Point {outcome.point.hex()[:12]} of {name_of_workload}
  files   {counts.files_new} new, {counts.files_changed} changed, {counts.files_unmodified} unmodified
  size    {format_size(counts.size_bytes)}
  read    {format_size(counts.bytes_read)}, stored {format_size(outcome.bytes_stored)}
  time    {format_duration(duration)}"""
    if compact:
        text += f"\n  packs   {outcome.packs_left} half-empty ones are not needed by this point any more"
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
