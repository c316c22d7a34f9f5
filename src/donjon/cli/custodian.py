"""`donjon custodian`: who may sign checkpoints of the vault."""

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
  donjon custodian add safe --out safe.custodian --kit vault.kit

\b
JSON: {"id", "name", "url", "credential"}."""

_LIST_EPILOG = """\b
Examples:
  donjon custodian list

\b
JSON: {"custodians": [{"id", "name", "created", "revoked"}]}; a hidden name is null,
and so is "revoked" while the custodian may sign."""

_REVOKE_EPILOG = """\b
Examples:
  donjon custodian revoke safe --kit vault.kit

\b
JSON: {"id", "name", "created", "revoked"}."""

app = typer.Typer(help="Decide who may sign checkpoints of the vault.", no_args_is_help=True)


@app.command("add", epilog=_ADD_EPILOG)
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the custodian.")],
    out_file: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to save the credential.")],
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Make a credential that signs checkpoints. Needs the kit with the root key.

    The credential opens no backup, adds none and deletes none. Keep it on a host that backs up nothing.
    """
    from donjon.app.signers.certified import CUSTODIAN, add_signer

    out = output(json=json, quiet=quiet)
    made = add_signer(workspace(vault, kit, passphrase_file), CUSTODIAN, name, out_file)
    data = {
        "id": made.custodian_id.hex(),
        "name": name,
        "url": made.url,
        "credential": str(out_file.absolute()),
    }
    text = f"""Certified the custodian {name} ({made.custodian_id.hex()[:12]})
Move {out_file} to the host that watches the vault. There, after each backup or every day:
donjon custody checkpoint --credential {out_file} --to PLACE"""
    out.result(data, text)
    return 0


@app.command("list", epilog=_LIST_EPILOG)
def list_(
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> int:
    """List the custodians; needs no key, but shows their names only with one."""
    from donjon.app.signers.certified import CUSTODIAN, list_signers

    out = output(json=json)
    found = list_signers(workspace(vault, kit, passphrase_file), CUSTODIAN)
    for custodian, label in found:
        out.line(signer_line(custodian, label, "may sign"))
    out.result({"custodians": [signer_data(custodian, label) for custodian, label in found]}, "")
    return 0


@app.command("revoke", epilog=_REVOKE_EPILOG)
def revoke(
    custodian: Annotated[str, typer.Argument(metavar="ID|NAME", help="As `donjon custodian list` shows it.")],
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Accept no more checkpoints of a custodian, for ever. Needs the kit with the root key.

    Checkpoints that it put into the vault before still count. Copies of them elsewhere count only as long
    as the vault has them too, so sign a new one with another custodian soon.
    """
    from donjon.app.signers.certified import CUSTODIAN, revoke_signer

    out = output(json=json, quiet=quiet)
    gone, label = revoke_signer(workspace(vault, kit, passphrase_file), CUSTODIAN, custodian)
    text = f"""Revoked {label} ({gone.writer_id.hex()[:12]})
Sign a new checkpoint with another custodian now, and publish it where the old ones are."""
    out.result(signer_data(gone, label), text)
    return 0
