"""`donjon mount`: look at points as a file system."""

from __future__ import annotations

import sys
from typing import Annotated

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
from donjon.cli.permits import AlthoughOption, ApprovalOption, permit
from donjon.core.errors import UsageError

EPILOG = """\b
Examples:
  donjon mount latest /mnt            the files of one point
  donjon mount /mnt                   all points: /mnt/WORKLOAD/TIME/...
  grep -r TODO /mnt/web/latest/srv    from another terminal, meanwhile

\b
JSON, once it is mounted: {"mounted", "points"}."""


def mount(
    point: Annotated[
        str, typer.Argument(metavar="[POINT]", help="latest, WORKLOAD@latest, WORKLOAD@TIME or an id [all].")
    ],
    folder: Annotated[str | None, typer.Argument(metavar="DIR", help="An empty folder.")] = None,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    allow_other: Annotated[
        bool,
        typer.Option("--allow-other", help="Other users may look too, as far as the files' modes allow."),
    ] = False,
    approval: ApprovalOption = None,
    although_suspect: AlthoughOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Mount points, read-only, until Ctrl-C or `fusermount3 -u DIR`.

    Without POINT, every workload has a folder with its points by time, and `latest` leads to the newest.
    Suspect points are left out; to mount one by its name takes approvals, as to restore it. Points made later
    appear after mounting again. Damaged files give input/output errors.
    """
    from donjon.app.mounts import prepare_mount
    from donjon.recovery.mount import check_mountpoint, serve

    out = output(json=json, quiet=quiet)
    name, place = (point, folder) if folder is not None else (None, point)
    if name is not None and ":/" in name:
        msg = "a point is mounted whole"
        raise UsageError(msg, hint="Mount the point without :/PATH, and look into DIR/PATH.")
    check_mountpoint(place)
    operations, count = prepare_mount(
        workspace(vault, kit, passphrase_file), name, out.warn, permit(approval, although=although_suspect)
    )

    def ready() -> None:
        text = f"Mounted {count} points at {place}; end with Ctrl-C or `fusermount3 -u {place}`"
        out.result({"mounted": place, "points": count}, text)
        sys.stdout.flush()

    operations.on_ready = ready
    serve(operations, place, allow_other=allow_other)
    return 0
