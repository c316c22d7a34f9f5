"""`donjon restore`: bring a point back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.backup_source import BucketVersions
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
from donjon.cli.restoring import How, end_timing, problem_rows, restore_code, start_timing
from donjon.core.errors import UsageError
from donjon.core.units import format_size
from donjon.targets.base import Overwrite

if TYPE_CHECKING:
    from donjon.app.wiring import Workspace
    from donjon.format.entries import Entry
    from donjon.recovery.request import Request
    from donjon.recovery.restore import Restored
    from donjon.repository.points import OpenPoint
    from donjon.repository.reading import ChunkReader
    from donjon.targets.bucket.target import BucketTarget
    from donjon.targets.parallel import ParallelTreeTarget

_OUTLOOK = "What is restored stays, and the same restore goes on from there."

EPILOG = """\b
Examples:
  donjon restore latest /restore               /srv/web comes to /restore/srv/web
  donjon restore web@latest:/srv/web /srv/web  what is in it, to where it was
  donjon restore photos@latest --to gs://other/photos
  donjon restore photos@latest --to s3://empty --versions all
  donjon restore latest:/etc/fstab /restore    one file, to /restore/fstab
  donjon restore latest /restore --include '*.sql' --exclude '/srv/old/'
  donjon restore latest / --overwrite if-different --dry-run
  donjon restore db@latest:/dev/sdb --to-device /dev/sdc --verify
  donjon restore db@latest:/vol-0f3a91 --to 'ebs://?region=eu-central-1&encrypt=yes'

\b
JSON: {"dry_run", "files", "directories", "others", "kept", "verified", "bytes",
"problems": [{"path", "reason"}], "damage": [{"path", "reason"}], "evidence"}; evidence is null if none
was signed; --dry-run has "replaced" instead of "verified", and no "evidence"; --versions all has "versions"
instead of "directories", "others" and "kept"; --to-device and --to a disk have
{"bytes", "bytes_written", "verified", "made", "notes", "evidence"}."""


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
    versions: Annotated[
        BucketVersions, typer.Option("--versions", help="With --to a bucket: its older versions, too.")
    ] = BucketVersions.CURRENT,
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
    paths in the point. With --record the time that a whole point took, to where nothing was, is signed
    evidence, by which `donjon status` judges the RTO. With --versions all a bucket gets its history back:
    older versions and delete markers first, in their order, and what is current over them.

    A point that is marked as suspect is refused, unless enough approvers allowed it (`donjon verdict
    request`), or in a vault without approvers with --although-suspect. Ends with 3 if the target refused
    something, and with 12 if something was damaged.
    """
    from donjon.clouds.objects.address import is_bucket

    out = output(json=json, quiet=quiet, verbose=verbose)
    if sum(place is not None for place in (target, to_device, to)) != 1:
        msg = "a restore has one target"
        raise UsageError(msg, hint="Name a folder, or use --to-device PATH or --to URL.")
    if target is None and dry_run:
        msg = "--dry-run is about folders"
        raise UsageError(msg, hint="Restore into a folder, or leave it out.")
    is_to_bucket = to is not None and is_bucket(to)
    if versions is BucketVersions.ALL and not is_to_bucket:
        msg = "--versions all is about restores to buckets"
        raise UsageError(msg, hint="Name one with --to, or leave it out: folders get all versions.")
    patterns = (tuple(include or ()), tuple(exclude or ()))
    space = workspace(vault, kit, passphrase_file)
    allowed = permit(approval, although=although_suspect)
    how = How(overwrite, verify, keep_going, dry_run, record, sign, allowed)
    if to_device is not None or (to is not None and not is_to_bucket):
        if any(patterns) or keep_going:
            msg = "--include, --exclude and --keep-going are about trees"
            raise UsageError(msg, hint="A disk is restored as a whole; leave them out.")
        from donjon.cli.restore_volume import restore_disk

        return restore_disk(out, space, point, (to_device, to), how)
    if to is not None and versions is BucketVersions.ALL:
        if any(patterns):
            msg = "--versions all restores a whole point, and never over anything else"
            raise UsageError(msg, hint="Leave out --include and --exclude.")
        from donjon.cli.restore_history import restore_history

        return restore_history(out, space, point, to, how)
    return _restore_tree(out, space, point, target or to or "", patterns, how)


def _restore_tree(
    out: Output,
    space: Workspace,
    what: str,
    place: Path | str,
    patterns: tuple[tuple[str, ...], tuple[str, ...]],
    how: How,
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
    watch = Stopwatch()
    opened = open_to_use(space, name, how.permit)
    start_timing(space, opened, how, watch, whole=is_whole)
    request = Request(
        opened.point, under, select, how.overwrite, keep_going=how.keep_going, verify=how.verify
    )
    if how.dry_run and isinstance(place, Path):
        return _dry_run(out, request, opened.reader, place)
    if is_whole:
        space.spool(opened.vault, opened.point, opened.reader, opened.point.body.size_bytes)
    with stopping(_OUTLOOK) as stop, out.progress("Restoring") as progress:
        if is_whole:
            progress.total(items=_items(opened.point), size_bytes=opened.point.body.size_bytes)
        with _target(place, request, new=how.record) as tree:
            done = carry_out(request, opened.reader, tree, progress, stop)
            warnings = tree.warnings()
    out.warn_all([f"{shown(path)}: {reason}" for path, reason in warnings])
    evidence = None
    if is_whole and not done.kept:
        sound = not (done.problems or done.damage)
        evidence = end_timing(out, space, opened, watch, done.size_bytes, sound=sound)
    _tell(out, done, evidence, verify=how.verify)
    return restore_code(done.problems, done.damage)


def _tell(out: Output, done: Restored, evidence: str | None, *, verify: bool) -> None:
    data = {
        "dry_run": False,
        "files": done.files,
        "directories": done.directories,
        "others": done.others,
        "kept": done.kept,
        "verified": done.verified,
        "bytes": done.size_bytes,
        "problems": problem_rows(done.problems),
        "damage": problem_rows(done.damage),
        "evidence": evidence,
    }
    text = f"Restored {done.files} files, {format_size(done.size_bytes)}; kept {done.kept}"
    if verify:
        text += f"; read back and compared {done.verified}"
    if done.problems or done.damage:
        text += f"; {len(done.problems)} refused by the target, {len(done.damage)} damaged"
    if evidence:
        text += f"; evidence {evidence[:12]}"
    out.result(data, text)


def _target(place: Path | str, request: Request, *, new: bool) -> ParallelTreeTarget | BucketTarget:
    """What is restored to, which must hold nothing if ``new``."""
    from donjon.app.timed_restores import check_new_bucket, check_new_folder

    if isinstance(place, str):
        from donjon.app.buckets import bucket_target, open_objects

        objects = open_objects(place)
        if new:
            check_new_bucket(objects)
        return bucket_target(objects, request)
    from donjon.targets.parallel import ParallelTreeTarget

    if new:
        check_new_folder(place)
    return ParallelTreeTarget(place, request.overwrite)


def _items(point: OpenPoint) -> int:
    return point.body.files + point.body.directories + point.body.others


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
        "problems": problem_rows(planned.problems),
        "damage": problem_rows(planned.damage),
    }
    text = f"Would restore {planned.files} files, {format_size(planned.size_bytes)}, and make "
    text += f"{planned.directories} folders; replace {planned.replaced}, keep {planned.kept}"
    if planned.problems or planned.damage:
        text += f"; the target would refuse {len(planned.problems)}, {len(planned.damage)} damaged"
    out.result(data, text)
    return restore_code(planned.problems, planned.damage)
