"""`donjon restore`: bring a point back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
from donjon.core.units import format_size
from donjon.targets.base import Overwrite

_INTEGRITY = 12
_UNREADABLE = 3

EPILOG = """\b
Examples:
  donjon restore latest /restore               /srv/web comes to /restore/srv/web
  donjon restore web@latest:/srv/web /srv/web  what is in it, to where it was
  donjon restore latest:/etc/fstab /restore    one file, to /restore/fstab

\b
JSON: {"files", "directories", "others", "kept", "bytes"}."""


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
    overwrite: Annotated[
        Overwrite, typer.Option("--overwrite", help="What to do with files that are there.")
    ] = Overwrite.NEVER,
    verify: Annotated[bool, typer.Option("--verify", help="Read every file back and compare.")] = False,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Restore what is undamaged.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Restore a point, or a part of it."""
    from donjon.app.backups import open_named_point, split_name
    from donjon.recovery.restore import Request
    from donjon.recovery.restore import restore as carry_out
    from donjon.targets.tree import TreeTarget

    out = output(json=json, quiet=quiet, verbose=verbose)
    name, under = split_name(point)
    opened = open_named_point(workspace(vault, kit, passphrase_file), name)
    request = Request(opened.point, under, None, overwrite, keep_going=keep_going, verify=verify)
    with out.progress("Restoring") as progress:
        progress.total(size_bytes=opened.point.body.size_bytes)
        done = carry_out(request, opened.reader, TreeTarget(target, overwrite), progress)
    data = {
        "files": done.files,
        "directories": done.directories,
        "others": done.others,
        "kept": done.kept,
        "bytes": done.size_bytes,
    }
    out.result(data, f"Restored {done.files} files, {format_size(done.size_bytes)}; kept {done.kept}")
    if done.damage:
        return _INTEGRITY
    return _UNREADABLE if done.problems else 0
