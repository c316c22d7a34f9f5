"""`donjon copy`: the same vault once more, in another place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.common import JsonOption, QuietOption, VaultOption, VerboseOption, output, workspace
from donjon.cli.interrupt import stopping
from donjon.cli.verify import finding_lines, finding_row
from donjon.core.units import format_duration, format_size, parse_duration

if TYPE_CHECKING:
    from donjon.app.copies import MadeCopy

_INTEGRITY = 12
_OUTLOOK = "What is copied stays whole, and the next run goes on from there."

EPILOG = """\b
Examples:
  donjon copy --to sftp://backup@other/srv/copy
  donjon copy --to s3://second-account/web --create --lock 90d
  donjon copy --vault web --to /media/disk/copy --dry-run
      then, on any machine: donjon points --vault /media/disk/copy --kit vault.kit

\b
JSON: {"url", "vault_id", "dry_run", "objects", "packs", "bytes", "points", "skipped",
"lock_s", "lock_enforcement", "notes",
"problems": [{"kind", "object", "what", "affects", "remedy"}]}; what "objects", "packs",
"bytes" and "points" count was put by this run; "skipped" was there already."""


def copy(
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="URL", help="Where: a folder, file:///…, sftp://…, s3://…, azure://… or gs://…."
        ),
    ],
    vault: VaultOption = None,
    lock: Annotated[
        str | None,
        typer.Option("--lock", metavar="TIME", help="Lock for longer than the vault does [the same]."),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="URL", help="Where an S3 server other than AWS answers."),
    ] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make the bucket, or mend what is wrong with it.")
    ] = False,
    allow_weak_locks: Annotated[
        bool, typer.Option("--allow-weak-locks", help="Take a bucket whose default locks can be lifted.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be copied, and put nothing.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Copy the vault to another place, or bring the copy there up to date.

    The copy is the same vault: it opens with the same kits and passphrases, and copying needs no key. Every
    object is checked first; what is damaged is reported and left out. What is there already is skipped and
    never overwritten. The copy has locks of its own. It may be interrupted, and run while backups run.
    Ends with 12 if anything is wrong with the vault or the copy.
    """
    from donjon.app.copies import CopyRequest, make_copy

    out = output(json=json, quiet=quiet, verbose=verbose)
    lock_s = None if lock is None else parse_duration(lock)
    request = CopyRequest(to, lock_s, dry_run, endpoint, create, allow_weak_locks)
    with out.progress("Copying") as progress, stopping(_OUTLOOK) as stop:
        made = make_copy(workspace(vault), request, progress, stop)
    done = made.copied
    data = {
        "url": made.url,
        "vault_id": made.vault.vault_id.hex(),
        "dry_run": dry_run,
        "objects": done.objects,
        "packs": done.packs,
        "bytes": done.size_bytes,
        "points": done.points,
        "skipped": done.skipped,
        "lock_s": made.lock_s,
        "lock_enforcement": made.lock_enforcement,
        "notes": done.notes,
        "problems": [finding_row(finding) for finding in done.findings],
    }
    out.result(data, _text(made, dry_run=dry_run))
    return _INTEGRITY if done.findings else 0


def _text(made: MadeCopy, *, dry_run: bool) -> str:
    done = made.copied
    lines = [finding_lines(finding) for finding in done.findings]
    verb = "Would copy" if dry_run else "Copied"
    what = f"{done.points} points, {done.objects} objects, {format_size(done.size_bytes)}"
    lines.append(f"{verb} {what} to {made.url}; {done.skipped} objects were there")
    if not dry_run:
        locks = f"{format_duration(made.lock_s)}, enforcement: {made.lock_enforcement}"
        lines.append(f"  locks  {locks if made.lock_s else 'none'}")
    lines += [f"  note: {note}" for note in done.notes]
    if done.findings:
        lines.append(f"{len(done.findings)} problems; everything else was copied")
    return "\n".join(lines)
