"""`donjon keys split` and `donjon keys join`: a recovery kit in the hands of several people."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from donjon.cli.common import JsonOption, KitOption, PassphraseOption, QuietOption, output, workspace
from donjon.cli.output import printable
from donjon.core.clock import system_clock
from donjon.core.errors import UsageError

SPLIT_EPILOG = """\b
Examples:
  donjon keys split --needed 3 --shares 5 --out shares --kit vault.kit
  donjon keys split --needed 2 --shares 3 --out shares --html --kit vault.kit
      with a page to print for each share, with a QR code

\b
JSON: {"fingerprint", "vault", "set", "needed", "shares", "files", "pages"}."""

JOIN_EPILOG = """\b
Examples:
  donjon keys join share-1-of-5.txt share-3-of-5.txt share-4-of-5.txt --out vault.kit
  donjon keys join --out vault.kit
      asks for words and for the sealed kit, and checks each as it is typed
  donjon keys join share-1-of-5.txt share-2-of-5.txt share-5-of-5.txt --check
      proves that these shares make the kit, and writes nothing

Ends with 13 if they do not: too few, a wrong word, shares of another kit or of another split.

\b
JSON: {"kit", "fingerprint", "vault", "vault_id", "set", "needed", "shares", "used"}; kit is null with
--check."""


def split(
    needed: Annotated[
        int, typer.Option("--needed", metavar="M", help="How many shares make the kit, 2 or more.")
    ],
    shares: Annotated[
        int, typer.Option("--shares", metavar="N", help="How many shares there are, at most 16.")
    ],
    out_folder: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where to put the share files.")
    ],
    html: Annotated[bool, typer.Option("--html", help="Also a page to print for each share.")] = False,
    new_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--new-passphrase-file", metavar="FILE", help="Protect the kit on the shares by this passphrase."
        ),
    ] = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Split a recovery kit into shares: any M of the N make it again, fewer tell nothing about it.

    Each share is a file with 33 words (SLIP-39) and the kit sealed with the key that the words share. The
    kit on them is the one given, with its passphrase if it has one. Nothing in the vault changes, and the
    kit itself stays valid: destroy it, or keep it as well as before.
    """
    from donjon.app.keys.shares import split as split_kit
    from donjon.keys.passphrase import passphrase_from_file

    out = output(json=json, quiet=quiet)
    passphrase = passphrase_from_file(new_passphrase_file) if new_passphrase_file else None
    space = workspace(kit=kit, passphrase_file=passphrase_file)
    made = split_kit(space, needed, shares, out_folder, passphrase, system_clock(), pages=html)
    data = {
        "fingerprint": made.fingerprint,
        "vault": made.vault_name,
        "set": made.set,
        "needed": needed,
        "shares": shares,
        "files": [str(path.absolute()) for path in made.files],
        "pages": [str(path.absolute()) for path in made.pages],
    }
    text = f"""Split the kit {made.fingerprint} of {made.vault_name} into {shares} shares (set {made.set})
  {out_folder}/share-1-of-{shares}.txt and so on; any {needed} of them make the kit

Give each share to somebody else, then remove the files here: whoever has {needed} has the kit.
Try them once a year: `donjon keys join SHARE ... --check`.
The kit itself still opens everything: destroy it, or keep it offline."""
    out.result(data, text)
    return 0


def join(
    share: Annotated[list[Path] | None, typer.Argument(metavar="[SHARE...]", help="Share files.")] = None,
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to save the kit; keep it offline.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Prove that they make the kit; write nothing.")
    ] = False,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Make a recovery kit from its shares. Needs nothing else, neither the vault nor a key.

    On a terminal, shares that are missing are typed: 33 words each, of which the first four letters are
    enough, and once the sealed kit. What is typed stays on the screen; clear it.
    """
    from donjon.app.keys.shares import check_enough, read_shares
    from donjon.app.keys.shares import join as join_shares
    from donjon.app.keys.typed_shares import type_shares

    if (out_file is None) != check:
        msg = "either --out FILE or --check is needed"
        raise UsageError(msg, hint="--out saves the kit, --check only tries the shares.")
    out = output(json=json, quiet=quiet)
    shares = read_shares(share or ())
    if sys.stdin.isatty():
        shares = type_shares(shares, _read_line, _tell)
    check_enough(shares)
    made = join_shares(workspace(passphrase_file=passphrase_file), shares, out_file)
    numbers = ", ".join(map(str, made.joined.numbers))
    data = {
        "kit": str(out_file.absolute()) if out_file else None,
        "fingerprint": made.fingerprint,
        "vault": made.vault_name,
        "vault_id": made.vault_id.hex(),
        "set": made.set,
        "needed": made.joined.needed,
        "shares": made.joined.count,
        "used": list(made.joined.numbers),
    }
    where = f"saved in {out_file}; remove it when it is not needed any more" if out_file else "not saved"
    protected = (
        "\n  passphrase   it has one, and opens nothing without it" if made.joined.is_protected else ""
    )
    text = f"""Shares {numbers} of {made.joined.count} make the kit of {made.vault_name}
  fingerprint  {made.fingerprint}
  kit          {where}{protected if made.joined.is_protected else ""}"""
    out.result(data, text)
    return 0


def _read_line(prompt: str) -> str | None:
    """One line from the terminal, without a history of what was typed."""
    sys.stderr.write(prompt)
    sys.stderr.flush()
    return sys.stdin.readline() or None


def _tell(text: str) -> None:
    sys.stderr.write(printable(text) + "\n")
