"""Options that many commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from donjon.app.config import Settings
from donjon.app.wiring import Workspace
from donjon.cli.output import Output, printable, say
from donjon.core.errors import Refused, UsageError
from donjon.core.secrecy import redacted

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
CustodianOption = Annotated[
    Path | None,
    typer.Option("--credential", metavar="FILE", help="What `donjon custodian add` made [DONJON_CUSTODIAN]."),
]
ApproverOption = Annotated[
    list[Path] | None,
    typer.Option("--approver", metavar="FILE.pub", help="Public key of an approver; repeatable."),
]
ApprovalsOption = Annotated[
    int, typer.Option("--approvals", metavar="M", help="How many of the approvers are needed, 2 or more.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Sign without asking on the terminal.")]
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
    return Workspace(settings, ask=ask_secret(), tell=_tell)


def custodian_file(credential: Path | None, what: str) -> Path:
    """The credential of the option, else of the environment. Raises ``UsageError`` if there is none."""
    if file := credential or os.environ.get("DONJON_CUSTODIAN"):
        return Path(file)
    msg = f"{what} needs the credential of a custodian"
    raise UsageError(msg, hint="Give it with --credential FILE or DONJON_CUSTODIAN.")


def output(*, json: bool = False, quiet: bool = False, verbose: bool = False) -> Output:
    """How to print."""
    return Output(json=json, quiet=quiet, verbose=verbose)


def consent(shown: str, *, yes: bool, show_on_stderr: bool) -> None:
    """Show what is to be signed, and go on only if a person says so or ``--yes`` was given.

    Raises ``Refused`` if the answer is no, ``UsageError`` if there is nobody to ask.
    """
    if show_on_stderr:
        sys.stderr.write(printable(shown) + "\n")
    else:
        say(shown)
    if yes:
        return
    if not sys.stdin.isatty():
        msg = "there is no terminal to ask whether this is to be signed"
        raise UsageError(msg, hint="Read what is shown above, then repeat with --yes.")
    sys.stderr.write("Sign this? Type yes: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != "yes":
        raise Refused("nothing was signed", hint="Run the command again to sign it after all.")


def ask_secret() -> Callable[[str], str] | None:
    """What asks a person for a secret without showing it; None if there is no terminal."""
    return _ask if sys.stdin.isatty() else None


def _tell(message: str) -> None:
    sys.stderr.write(f"donjon: {printable(redacted(message))}\n")


def _ask(prompt: str) -> str:
    from getpass import getpass

    return getpass(prompt)
