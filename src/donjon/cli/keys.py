"""`donjon keys`: who can open the vault."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from donjon.cli.output import Output
from donjon.core.clock import iso
from donjon.core.errors import UsageError

if TYPE_CHECKING:
    from donjon.app.members import AddedKey, KeyInfo
    from donjon.repository.sealing import Resealed

_INTEGRITY = 12
_NO_KEY = 13
_WEAK_PASSPHRASE_CHARS = 12
_SHOWN = 5

_LIST_EPILOG = """\b
Examples:
  donjon keys list
  donjon keys list --kit /media/usb/vault.kit
      with the names, which are hidden from those without a key

\b
JSON: {"keys": [{"id", "kind", "name", "created"}]}; a hidden name is null."""

_ADD_PHRASE_EPILOG = """\b
Examples:
  donjon keys add passphrase --name office --kit vault.kit
  donjon keys add passphrase --name office --new-passphrase-file F --kit vault.kit

\b
JSON: {"id", "kind", "name", "created", "sessions", "sealed", "failed"}."""

_KIT_EPILOG = """\b
Examples:
  donjon keys add kit --name safe --out /media/usb2/second.kit --kit vault.kit
  donjon keys add kit --name board --out board.kit --with-root --kit vault.kit

\b
JSON: {"id", "kind", "name", "created", "sessions", "sealed", "failed", "kit",
"fingerprint", "root"}."""

_REMOVE_EPILOG = """\b
Examples:
  donjon keys remove office --kit vault.kit
  donjon keys remove 3fa9c1 --kit vault.kit

\b
JSON: {"id", "kind", "name", "created"}."""

_CHECK_EPILOG = """\b
Examples:
  donjon keys check --kit vault.kit
  donjon keys check --passphrase-file F

Ends with 13 if the given key does not open a session, with 12 if one is damaged.

\b
JSON: {"ok", "sessions", "sealed_to", "keys": [{"id", "kind", "name", "created",
"missing"}], "unopened", "damaged", "warnings"}."""

_RESEAL_EPILOG = """\b
Examples:
  donjon keys reseal --kit vault.kit

\b
JSON: {"sessions", "sealed", "failed"}."""

_PRINT_EPILOG = """\b
Examples:
  donjon keys print --kit vault.kit
  donjon keys print --kit vault.kit --html kit.html

\b
JSON: {"kit", "html"} with --html, else {"kit", "text"}."""

app = typer.Typer(help="See, add, remove and check the keys that open the vault.", no_args_is_help=True)
_add = typer.Typer(
    help="Let one more key open the vault, all earlier backups included.", no_args_is_help=True
)
app.add_typer(_add, name="add")

NewPassphraseOption = Annotated[
    Path | None,
    typer.Option("--new-passphrase-file", metavar="FILE", help="File with the passphrase of the new key."),
]
NameOption = Annotated[str, typer.Option("--name", help="What to call the new key.")]


@app.command("list", epilog=_LIST_EPILOG)
def list_(
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> int:
    """List the keys that open the vault; needs no key."""
    from donjon.app.members import list_keys

    out = output(json=json)
    keys = list_keys(workspace(vault, kit, passphrase_file))
    for key in keys:
        out.line(_line(key))
    out.result({"keys": [_data(key) for key in keys]}, "")
    return 0


@_add.command("passphrase", epilog=_ADD_PHRASE_EPILOG)
def add_passphrase(
    name: NameOption,
    new_passphrase_file: NewPassphraseOption = None,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Let a passphrase open the vault. Needs the kit with the root key.

    On a terminal the passphrase is asked for twice. Whoever can read the vault's storage can try to guess
    it for years: use several random words.
    """
    from donjon.app import members

    out = output(json=json, quiet=quiet)
    space = workspace(vault, kit, passphrase_file)
    passphrase = _new_passphrase(new_passphrase_file, out)
    with out.progress("Sealing") as progress:
        added = members.add_passphrase(space, name, passphrase, progress)
    return _report_added(added, out, {}, "")


@_add.command("kit", epilog=_KIT_EPILOG)
def add_kit(
    name: NameOption,
    out_file: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where to save the new kit; keep it offline.")
    ],
    with_root: Annotated[
        bool, typer.Option("--with-root", help="Put the vault's root key on it, which decides over keys.")
    ] = False,
    new_passphrase_file: NewPassphraseOption = None,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Make one more recovery kit. Needs the kit with the root key."""
    from donjon.app import members
    from donjon.keys.passphrase import passphrase_from_file

    out = output(json=json, quiet=quiet)
    passphrase = passphrase_from_file(new_passphrase_file) if new_passphrase_file else None
    space = workspace(vault, kit, passphrase_file)
    with out.progress("Sealing") as progress:
        added = members.add_kit(space, name, out_file, passphrase, progress, with_root=with_root)
    more = {"kit": str(out_file.absolute()), "fingerprint": added.fingerprint, "root": with_root}
    text = f"\n  fingerprint  {added.fingerprint}\n  kit          {out_file}; move it off this host now"
    return _report_added(added, out, more, text)


@app.command("remove", epilog=_REMOVE_EPILOG)
def remove(
    key: Annotated[str, typer.Argument(metavar="ID|NAME", help="As `donjon keys list` shows it.")],
    force: Annotated[bool, typer.Option("--force", help="Also if it is the kit given here.")] = False,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Seal no new backup to this key. Needs the kit with the root key.

    This cannot take back what was given away: whoever has a copy of the key and can read the vault's
    storage can still open every backup made before.
    """
    from donjon.app.members import remove_key

    out = output(json=json, quiet=quiet)
    gone = remove_key(workspace(vault, kit, passphrase_file), key, force=force)
    text = f"""Removed {gone.name} ({gone.kind}, {gone.recipient_id.hex()[:12]})
New backups are not sealed to it.
Backups made before stay open to whoever has a copy of this key and can read the storage;
that cannot be recalled. If it was stolen, see docs/guide-keys.md."""
    out.result(_data(gone), text)
    return 0


@app.command("check", epilog=_CHECK_EPILOG)
def check(
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Prove that the given key opens every backup, and show which keys lack any."""
    from donjon.app.members import check_keys

    out = output(json=json, quiet=quiet)
    space = workspace(vault, kit, passphrase_file)
    with out.progress("Checking") as progress:
        keys, found = check_keys(space, progress)
    warnings = []
    if found.least < len(keys):
        warnings.append("some sessions are not sealed to every key: `donjon keys reseal` completes them")
    if min(found.least, len(keys)) < 2:
        warnings.append(
            "fewer than two independent keys open everything: lose one and all is lost. "
            "Add one: `donjon keys add kit --out FILE --name NAME`"
        )
    ok = not (found.unopened or found.damaged)
    data = {
        "ok": ok,
        "sessions": found.sessions,
        "sealed_to": found.least,
        "keys": [_data(key) | {"missing": found.missing[key.recipient_id]} for key in keys],
        "unopened": [error.message for error in found.unopened],
        "damaged": [error.message for error in found.damaged],
        "warnings": warnings,
    }
    lines = [
        f"{found.sessions} sessions; every session is sealed to {found.least} of {len(keys)} recipients"
        if found.least < len(keys)
        else f"{found.sessions} sessions; every session is sealed to all {len(keys)} recipients"
    ]
    for key in keys:
        lacking = found.missing[key.recipient_id]
        lines.append(f"{_line(key)}  {f'lacks {len(lacking)} sessions' if lacking else 'complete'}")
    lines.append("The given key opens all of them." if ok else "The given key does not open all of them:")
    errors = [error.message for error in (*found.damaged, *found.unopened)]
    lines += [f"  {message}" for message in errors[:_SHOWN]]
    if len(errors) > _SHOWN:
        lines.append(f"  and {len(errors) - _SHOWN} more; --json lists all")
    out.result(data, "\n".join(lines))
    for warning in warnings:
        out.warn(warning)
    if found.damaged:
        return _INTEGRITY
    return _NO_KEY if found.unopened else 0


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
    from donjon.app.members import reseal_all

    out = output(json=json, quiet=quiet)
    space = workspace(vault, kit, passphrase_file)
    with out.progress("Sealing") as progress:
        done = reseal_all(space, progress)
    out.result(_resealed(done), f"{done.sealed} seals made for {done.sessions} sessions")
    return _worst(done)


@app.command("print", epilog=_PRINT_EPILOG)
def print_(
    kit: KitOption = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page to print, and show nothing.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """Show a recovery kit with its QR code, or make a page to print. The page is as secret as the kit."""
    from donjon.app.paper import print_kit

    out = output(json=json)
    space = workspace(kit=kit)
    paper = print_kit(space.settings.kit, html)
    if html is not None:
        text = f"Wrote {html}. Print it, then remove it: whoever reads it has the kit."
        out.result({"kit": paper.kit, "html": str(html.absolute())}, text)
    else:
        out.result({"kit": paper.kit, "text": paper.text}, f"{paper.text}\n{paper.qr}")
    return 0


def _new_passphrase(file: Path | None, out: Output) -> str:
    from donjon.keys.passphrase import passphrase_from_file

    if file is not None:
        passphrase = passphrase_from_file(file)
    elif sys.stdin.isatty():
        from getpass import getpass

        passphrase = getpass("New passphrase: ")
        if passphrase != getpass("The same again: "):
            msg = "the two passphrases differ"
            raise UsageError(msg, hint="Run the command again; nothing was changed.")
    else:
        msg = "there is no terminal to ask for the new passphrase"
        raise UsageError(msg, hint="Give it with --new-passphrase-file FILE.")
    if len(passphrase) < _WEAK_PASSPHRASE_CHARS:
        out.warn("this passphrase is short; whoever can read the vault's storage can guess it offline")
    return passphrase


def _report_added(added: AddedKey, out: Output, more: dict[str, object], text: str) -> int:
    key, done = added.key, added.resealed
    summary = (
        f"Added {key.name} ({key.kind}, {key.recipient_id.hex()[:12]}): it opens all new backups, and "
        f"{done.sessions - len(done.failures)} of {done.sessions} earlier ones"
    )
    out.result(_data(key) | _resealed(done) | more, summary + text)
    if done.failures:
        out.warn("some sessions could not be sealed to it; see `donjon keys check`")
    return _worst(done)


def _worst(done: Resealed) -> int:
    return max((error.exit_code for error in done.failures), default=0)


def _resealed(done: Resealed) -> dict[str, object]:
    failed = [error.message for error in done.failures]
    return {"sessions": done.sessions, "sealed": done.sealed, "failed": failed}


def _data(key: KeyInfo) -> dict[str, object]:
    return {
        "id": key.recipient_id.hex(),
        "kind": key.kind,
        "name": key.name or None,
        "created": iso(key.created_at),
    }


def _line(key: KeyInfo) -> str:
    return (
        f"{key.recipient_id.hex()[:12]}  {key.kind:<10}  {iso(key.created_at)}  {key.name or '(name hidden)'}"
    )
