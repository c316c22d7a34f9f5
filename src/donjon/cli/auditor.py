"""`donjon auditor`: who may sign evidence, and nothing else."""

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
    output,
    workspace,
)
from donjon.cli.writer import signer_data, signer_line

_ADD_EPILOG = """\b
Examples:
  donjon auditor add eve --out eve.auditor --kit vault.kit

\b
JSON: {"id", "name", "url", "credential"}."""

_LIST_EPILOG = """\b
Examples:
  donjon auditor list

\b
JSON: {"auditors": [{"id", "name", "created", "revoked"}]}; a hidden name is null,
and so is "revoked" while the auditor may sign."""

_REVOKE_EPILOG = """\b
Examples:
  donjon auditor revoke eve --kit vault.kit

\b
JSON: {"id", "name", "created", "revoked"}."""

app = typer.Typer(help="Decide who may sign evidence, and nothing else.", no_args_is_help=True)


@app.command("add", epilog=_ADD_EPILOG)
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the auditor.")],
    out_file: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to save the credential.")],
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Make a credential that signs what drills and checks saw. Needs the kit with the root key.

    The credential opens no backup, adds none, signs no checkpoint and deletes nothing.
    """
    from donjon.app.signers.certified import AUDITOR, add_signer

    out = output(json=json, quiet=quiet)
    made = add_signer(workspace(vault, kit, passphrase_file), AUDITOR, name, out_file)
    data = {
        "id": made.signer_id.hex(),
        "name": name,
        "url": made.url,
        "credential": str(out_file.absolute()),
    }
    text = f"""Certified the auditor {name} ({made.signer_id.hex()[:12]})
Move {out_file} to the machine that runs the drills, and name it there with --sign or DONJON_AUDITOR."""
    out.result(data, text)
    return 0


@app.command("list", epilog=_LIST_EPILOG)
def list_(
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> int:
    """List the auditors; needs no key, but shows their names only with one."""
    from donjon.app.signers.certified import AUDITOR, list_signers

    out = output(json=json)
    found = list_signers(workspace(vault, kit, passphrase_file), AUDITOR)
    for auditor, label in found:
        out.line(signer_line(auditor, label, "may sign"))
    out.result({"auditors": [signer_data(auditor, label) for auditor, label in found]}, "")
    return 0


@app.command("revoke", epilog=_REVOKE_EPILOG)
def revoke(
    auditor: Annotated[str, typer.Argument(metavar="ID|NAME", help="As `donjon auditor list` shows it.")],
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Accept no more evidence of an auditor, for ever. Needs the kit with the root key.

    What it put into the vault before still counts. A file counts only if the vault had the same bytes before.
    """
    from donjon.app.signers.certified import AUDITOR, revoke_signer

    out = output(json=json, quiet=quiet)
    gone, label = revoke_signer(workspace(vault, kit, passphrase_file), AUDITOR, auditor)
    out.result(signer_data(gone, label), f"Revoked {label} ({gone.writer_id.hex()[:12]})")
    return 0
