"""Options that many commands share."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from donjon.app.config import Settings
from donjon.app.wiring import Workspace
from donjon.cli.output import Output

VaultOption = Annotated[
    str | None, typer.Option("--vault", metavar="NAME|URL", help="Which vault [DONJON_VAULT].")
]
KitOption = Annotated[
    Path | None, typer.Option("--kit", metavar="FILE", help="Recovery kit that opens the vault [DONJON_KIT].")
]
PassphraseOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="File with the passphrase of the kit or the vault [DONJON_PASSPHRASE_FILE].",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Print more.")]


def workspace(
    vault: str | None = None, kit: Path | None = None, passphrase_file: Path | None = None
) -> Workspace:
    """The workspace for these options, completed from the environment."""
    settings = Settings.from_environment(os.environ)
    settings = replace(
        settings,
        vault=vault or settings.vault,
        kit=kit or settings.kit,
        passphrase_file=passphrase_file or settings.passphrase_file,
    )
    return Workspace(settings, ask=_ask if sys.stdin.isatty() else None, tell=_tell)


def output(*, json: bool = False, quiet: bool = False, verbose: bool = False) -> Output:
    """How to print."""
    return Output(json=json, quiet=quiet, verbose=verbose)


def _tell(message: str) -> None:
    sys.stderr.write(f"donjon: {message}\n")


def _ask(prompt: str) -> str:
    from getpass import getpass

    return getpass(prompt)
