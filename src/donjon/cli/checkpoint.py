"""`donjon custody checkpoint`: sign which points there are, and publish it."""

from __future__ import annotations

from typing import Annotated

import typer

from donjon.cli.common import (
    CustodianOption,
    JsonOption,
    QuietOption,
    VaultOption,
    custodian_file,
    output,
    workspace,
)
from donjon.core.clock import iso

EPILOG = """\b
Examples:
  donjon custody checkpoint --credential safe.custodian --to /media/usb/checkpoint
  donjon custody checkpoint --credential safe.custodian --to sftp://user@host/witness
      compare later: donjon verify --witness sftp://user@host/witness

\b
JSON: {"number", "points", "writers", "created", "digest", "places", "removed"}."""


def checkpoint(
    credential: CustodianOption = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            metavar="URL|FILE",
            help="Publish it there too: store, folder or new file; repeatable.",
        ),
    ] = None,
    accept_removed: Annotated[
        bool,
        typer.Option("--accept-removed", help="Points may be gone whose lock has ended: you removed them."),
    ] = False,
    vault: VaultOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Sign the list of all points, so that nobody can hide one or show an older state unnoticed.

    It needs a custodian's credential and no key that opens backups. The checkpoint goes into the vault and
    to each --to: keep at least one where who keeps the vault cannot reach it. Nothing is signed if the vault
    contradicts the checkpoint before.
    """
    from donjon.app.checkpoints import make_checkpoint

    out = output(json=json, quiet=quiet)
    file = custodian_file(credential, "a checkpoint")
    made = make_checkpoint(workspace(vault), file, to or (), accept_removed=accept_removed)
    content = made.signed.checkpoint
    data = {
        "number": content.number,
        "points": made.points,
        "writers": len(content.chains),
        "created": iso(content.created_at),
        "digest": made.signed.digest.hex(),
        "places": made.places,
        "removed": made.removed,
    }
    lines = [f"Checkpoint {content.number}: {made.points} points of {len(content.chains)} writers"]
    lines += [f"  {place}" for place in made.places]
    if made.removed:
        lines.append(f"  leaves out {len(made.removed)} points that were removed")
    if not to:
        lines.append("Publish it elsewhere too, with --to: whoever keeps the vault can hide it there.")
    out.result(data, "\n".join(lines))
    return 0
