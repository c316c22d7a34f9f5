"""`donjon restore`: bring a point back."""

from __future__ import annotations

import os
from dataclasses import dataclass
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
from donjon.cli.evidence import SignOption
from donjon.cli.interrupt import stopping
from donjon.cli.output import Output, shown
from donjon.cli.permits import AlthoughOption, ApprovalOption, permit
from donjon.core.errors import UsageError
from donjon.core.units import format_size
from donjon.targets.base import Overwrite

if TYPE_CHECKING:
    from donjon.app.evidence import Recorded
    from donjon.app.verdicts.permits import Permit
    from donjon.app.wiring import Workspace
    from donjon.format.entries import Entry
    from donjon.format.segments import Problem
    from donjon.recovery.request import Request
    from donjon.recovery.restore import Restored
    from donjon.repository.points import OpenPoint
    from donjon.repository.reading import ChunkReader
    from donjon.targets.bucket.target import BucketTarget
    from donjon.targets.parallel import ParallelTreeTarget

_INTEGRITY = 12
_UNREADABLE = 3
_OUTLOOK = "What is restored stays, and the same restore goes on from there."

EPILOG = """\b
Examples:
  donjon restore latest /restore               /srv/web comes to /restore/srv/web
  donjon restore web@latest:/srv/web /srv/web  what is in it, to where it was
  donjon restore photos@latest --to gs://other/photos
  donjon restore latest:/etc/fstab /restore    one file, to /restore/fstab
  donjon restore latest /restore --include '*.sql' --exclude '/srv/old/'
  donjon restore latest / --overwrite if-different --dry-run
  donjon restore db@latest:/dev/sdb --to-device /dev/sdc --verify
  donjon restore db@latest:/vol-0f3a91 --to 'ebs://?region=eu-central-1&encrypt=yes'

\b
JSON: {"dry_run", "files", "directories", "others", "kept", "verified", "bytes",
"problems": [{"path", "reason"}], "damage": [{"path", "reason"}], "evidence"}; evidence is null if none
was signed; --dry-run has "replaced" instead of "verified", and no "evidence"; --to-device and --to have
{"bytes", "bytes_written", "verified", "made", "notes"}."""


def restore(
    point: Annotated[
        str, typer.Argument(metavar="POINT[:/PATH]", help="latest, WORKLOAD@latest, WORKLOAD@TIME or an id.")
    ],
    target: Annotated[
        Path | None, typer.Argument(metavar="[TARGET]", help="Folder to restore into; made if necessary.")
    ] = None,
    to_device: Annotated[
        Path | None,
        typer.Option(
            "--to-device", metavar="PATH", help="Restore one file as a disk: a block device, or a new image."
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="URL",
            help="Restore to objects of s3://…, azure://… or gs://…, or one file as a disk: ebs://…, azure-disk://….",
        ),
    ] = None,
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
    record: Annotated[
        bool, typer.Option("--record", help="Sign how long the whole point took, as evidence in the vault.")
    ] = False,
    sign: SignOption = None,
    approval: ApprovalOption = None,
    although_suspect: AlthoughOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Restore a point, or a part of it.

    With --to-device and --to, one file of the point becomes a disk, be it of a device, a cloud's volume or an
    image file; POINT may do without a path if it has no other file.

    What is there already stays as it is unless --overwrite says otherwise. Patterns are matched against the
    paths in the point. With --record the time that a whole point took, into an empty folder, is signed
    evidence, by which `donjon status` judges the RTO.

    A point that is marked as suspect is refused, unless enough approvers allowed it (`donjon verdict
    request`), or in a vault without approvers with --although-suspect. Ends with 3 if the target refused
    something, and with 12 if something was damaged.
    """
    from donjon.clouds.objects.address import is_bucket

    out = output(json=json, quiet=quiet, verbose=verbose)
    if sum(place is not None for place in (target, to_device, to)) != 1:
        msg = "a restore has one target"
        raise UsageError(msg, hint="Name a folder, or use --to-device PATH or --to URL.")
    if target is None and (dry_run or record):
        msg = "--dry-run and --record are about folders"
        raise UsageError(msg, hint="Restore into a folder, or leave them out.")
    patterns = (tuple(include or ()), tuple(exclude or ()))
    space = workspace(vault, kit, passphrase_file)
    if to_device is not None or (to is not None and not is_bucket(to)):
        if any(patterns) or keep_going:
            msg = "--include, --exclude and --keep-going are about trees"
            raise UsageError(msg, hint="A disk is restored as a whole; leave them out.")
        from donjon.cli.restore_volume import restore_disk

        return restore_disk(
            out,
            space,
            point,
            (to_device, to),
            overwrite,
            verify=verify,
            permit=permit(approval, although=although_suspect),
        )
    allowed = permit(approval, although=although_suspect)
    how = _How(overwrite, verify, keep_going, dry_run, record, sign, allowed)
    return _restore_tree(out, space, point, target or to or "", patterns, how)


@dataclass(frozen=True, slots=True)
class _How:
    overwrite: Overwrite
    verify: bool
    keep_going: bool
    dry_run: bool
    record: bool
    sign: Path | None
    permit: Permit


def _restore_tree(
    out: Output,
    space: Workspace,
    what: str,
    place: Path | str,
    patterns: tuple[tuple[str, ...], tuple[str, ...]],
    how: _How,
) -> int:
    """Restore a point, or what the patterns choose of it, to a folder or to the address of a bucket."""
    from donjon.app.backups import open_to_use, split_name
    from donjon.app.timed_restores import Stopwatch
    from donjon.recovery.plan import choose
    from donjon.recovery.request import Request
    from donjon.recovery.restore import restore as carry_out

    name, under = split_name(what)
    select = choose(*patterns)
    is_whole = not under and select is None
    if how.record and not is_whole:
        msg = "only the restore of a whole point tells how long recovery takes"
        raise UsageError(msg, hint="Leave out --record, or the path and the patterns.")
    watch = Stopwatch()
    opened = open_to_use(space, name, how.permit)
    if how.record and isinstance(place, Path):
        watch.prepare(space, opened, how.sign, os.environ, place)
    request = Request(
        opened.point, under, select, how.overwrite, keep_going=how.keep_going, verify=how.verify
    )
    if how.dry_run and isinstance(place, Path):
        return _dry_run(out, request, opened.reader, place)
    if is_whole:
        space.spool(opened.vault, opened.point)
    with stopping(_OUTLOOK) as stop, out.progress("Restoring") as progress:
        if is_whole:
            progress.total(items=_items(opened.point), size_bytes=opened.point.body.size_bytes)
        with _target(place, request) as tree:
            done = carry_out(request, opened.reader, tree, progress, stop)
            warnings = tree.warnings()
    out.warn_all([f"{shown(path)}: {reason}" for path, reason in warnings])
    recorded = watch.record(opened, done)
    is_timed = is_whole and isinstance(place, Path) and not done.kept
    if is_timed and (fault := watch.remember(space.home, os.environ, opened, done)):
        out.warn(fault)
    _tell(out, done, recorded, verify=how.verify)
    return _exit_code(done.problems, done.damage)


def _tell(out: Output, done: Restored, recorded: Recorded | None, *, verify: bool) -> None:
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
        "evidence": recorded.signed.digest.hex() if recorded else None,
    }
    text = f"Restored {done.files} files, {format_size(done.size_bytes)}; kept {done.kept}"
    if verify:
        text += f"; read back and compared {done.verified}"
    if done.problems or done.damage:
        text += f"; {len(done.problems)} refused by the target, {len(done.damage)} damaged"
    if recorded is not None:
        text += f"; evidence {recorded.signed.digest.hex()[:12]}"
    out.result(data, text)


def _target(place: Path | str, request: Request) -> ParallelTreeTarget | BucketTarget:
    if isinstance(place, str):
        from donjon.app.buckets import bucket_target

        return bucket_target(place, request)
    from donjon.targets.parallel import ParallelTreeTarget

    return ParallelTreeTarget(place, request.overwrite)


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
