"""`donjon enrol`: let this host back up to a vault."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from donjon.cli.common import JsonOption, QuietOption, output, workspace

EPILOG = """\b
Examples:
  donjon enrol web1.writer
  donjon enrol web1.writer --name prod

\b
JSON: {"name", "url", "vault_id"}."""


def enrol(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `donjon writer add` made.")],
    name: Annotated[str | None, typer.Option("--name", help="What to call the vault on this host.")] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Install a writer credential on this host.

    Afterwards this host can back up. It can open no backup without a kit or a passphrase.
    """
    from donjon.app.signers.enrolment import enrol as install

    out = output(json=json, quiet=quiet)
    known = install(workspace(), file, name)
    text = f"""This host backs up to {known.name} at {known.url} now
Remove {file}: this host has a copy of its own. Next: donjon backup PATH"""
    out.result({"name": known.name, "url": known.url, "vault_id": known.vault_id}, text)
    return 0
