"""`donjon keys`: who can open the vault."""

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
from donjon.cli.key_lines import (
    SingleOption,
    key_data,
    key_line,
    reach_data,
    resealed_data,
    still_open,
    worst,
)
from donjon.cli.keys_add import app as add_commands
from donjon.cli.requests import ExpiresOption, NewFileOption, ReasonOption, asking, report_pending

_LIST_EPILOG = """\b
Examples:
  donjon keys list
  donjon keys list --kit /media/usb/vault.kit
      with the names, which are hidden from those without a key

\b
JSON: {"keys": [{"id", "kind", "name", "created", "uri"}], "warnings"}; a hidden name is null,
and so is the uri of what is in no key service."""

_REVOKE_EPILOG = """\b
Examples:
  donjon keys revoke office --kit vault.kit
  donjon keys revoke 3fa9c1 --kit vault.kit

\b
JSON: {"id", "kind", "name", "created", "uri", "still_opens": {"sessions", "of", "points", "first",
"last", "unknown"}, "warnings", "changed"}; if approvals are missing, which ends with 11,
{"changed", "new", "request"}, the latter as for `donjon approve show`."""

_RESEAL_EPILOG = """\b
Examples:
  donjon keys reseal --kit vault.kit

\b
JSON: {"sessions", "sealed", "failed"}."""

_PRINT_EPILOG = """\b
Examples:
  donjon keys print --kit vault.kit
  donjon keys print --kit vault.kit --html kit.html
  donjon keys print --share shares/share-2-of-5.txt

\b
JSON: {"kit", "html"} with --html, else {"kit", "text"}."""

app = typer.Typer(
    help="See, add, rotate, revoke, split and check the keys that open the vault.", no_args_is_help=True
)
app.add_typer(add_commands, name="add")


@app.command("list", epilog=_LIST_EPILOG)
def list_(
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> int:
    """List the keys that open the vault; needs no key."""
    from donjon.app.keys.members import list_keys

    out = output(json=json)
    keys, warnings = list_keys(workspace(vault, kit, passphrase_file))
    for key in keys:
        out.line(key_line(key))
    out.result({"keys": [key_data(key) for key in keys], "warnings": warnings}, "")
    for warning in warnings:
        out.warn(warning)
    return 0


@app.command("revoke", epilog=_REVOKE_EPILOG)
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID|NAME", help="As `donjon keys list` shows it.")],
    force: Annotated[bool, typer.Option("--force", help="Also if it is the kit given here.")] = False,
    single_recipient: SingleOption = False,
    reason: ReasonOption = None,
    expires: ExpiresOption = "7d",
    file: NewFileOption = None,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Seal no new backup to this key, from the next one on. Needs the kit with the root key.

    This cannot take back what was given away: whoever has a copy of the key and can read the vault's
    storage can still open every backup made before. How many those are is told.

    In a vault with approvers nobody can do it alone: the first run asks them, and the same again, once enough
    have signed (`donjon approve sign`), revokes the key. --reason, --expires and --file are for that.
    """
    from donjon.app.keys.changes import Pending
    from donjon.app.keys.revocation import revoke_key

    out = output(json=json, quiet=quiet)
    space = workspace(vault, kit, passphrase_file)
    how = asking(reason, expires, file)
    gone = revoke_key(space, key, force=force, single_recipient=single_recipient, asking=how)
    if isinstance(gone, Pending):
        return report_pending(gone, file, "the same command again", out)
    text = f"""Revoked {gone.key.name} ({gone.key.kind}, {gone.key.recipient_id.hex()[:12]})
New backups are not sealed to it.
{still_open(gone.reach)}"""
    more = {"still_opens": reach_data(gone.reach), "warnings": gone.warnings, "changed": True}
    out.result(key_data(gone.key) | more, text)
    for warning in gone.warnings:
        out.warn(warning)
    return 0


@app.command("reseal", epilog=_RESEAL_EPILOG)
def reseal(
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Seal every session to every key, as after a `keys add` that was cut off.

    Needs the kit with the root key. What is sealed already is skipped.
    """
    from donjon.app.keys.members import reseal_all

    out = output(json=json, quiet=quiet)
    space = workspace(vault, kit, passphrase_file)
    with out.progress("Sealing") as progress:
        done = reseal_all(space, progress)
    out.result(resealed_data(done), f"{done.sealed} seals made for {done.sessions} sessions")
    return worst(done)


@app.command("print", epilog=_PRINT_EPILOG)
def print_(
    kit: KitOption = None,
    share: Annotated[
        Path | None, typer.Option("--share", metavar="FILE", help="A share of a kit instead of a kit.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page to print, and show nothing.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """Show a recovery kit, or a share of one, with its QR code, or make a page to print.

    The page is as secret as what is on it.
    """
    from donjon.app.keys.paper import print_kit

    out = output(json=json)
    space = workspace(kit=kit)
    paper = print_kit(share or space.settings.kit, html)
    if html is not None:
        text = f"Wrote {html}. Print it, then remove it: whoever reads it has what is on it."
        out.result({"kit": paper.kit, "html": str(html.absolute())}, text)
    else:
        out.result({"kit": paper.kit, "text": paper.text}, f"{paper.text}\n{paper.qr}")
    return 0
