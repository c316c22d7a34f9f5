"""`donjon keys add`: one more key that opens the vault."""

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
from donjon.cli.key_lines import key_data, resealed_data, worst
from donjon.cli.output import Output
from donjon.core.errors import UsageError

if TYPE_CHECKING:
    from donjon.app.keys.members import AddedKey

_WEAK_PASSPHRASE_CHARS = 12

_ADD_PHRASE_EPILOG = """\b
Examples:
  donjon keys add passphrase --name office --kit vault.kit
  donjon keys add passphrase --name office --new-passphrase-file F --kit vault.kit

\b
JSON: {"id", "kind", "name", "created", "uri", "sessions", "sealed", "failed"}."""

_ADD_KMS_EPILOG = """\b
Examples:
  donjon keys add kms aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID --name aws

\b
Forms of URI:
  aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID
  azure-keyvault:https://NAME.vault.azure.net/keys/KEY    or NAME.managedhsm.azure.net
  gcp-kms:projects/P/locations/L/keyRings/R/cryptoKeys/K
  openbao:https://HOST:8200/MOUNT/KEY    OpenBao or HashiCorp Vault, Transit
  'pkcs11:token=LABEL;object=LABEL'      a token or HSM, as in RFC 7512

\b
JSON: {"id", "kind", "name", "created", "uri", "sessions", "sealed", "failed"}."""

_KIT_EPILOG = """\b
Examples:
  donjon keys add kit --name safe --out /media/usb2/second.kit --kit vault.kit
  donjon keys add kit --name board --out board.kit --with-root --kit vault.kit

\b
JSON: {"id", "kind", "name", "created", "uri", "sessions", "sealed", "failed", "kit",
"fingerprint", "root"}."""

app = typer.Typer(help="Let one more key open the vault, all earlier backups included.", no_args_is_help=True)

NewPassphraseOption = Annotated[
    Path | None,
    typer.Option("--new-passphrase-file", metavar="FILE", help="File with the passphrase of the new key."),
]
NameOption = Annotated[str, typer.Option("--name", help="What to call the new key.")]


@app.command("passphrase", epilog=_ADD_PHRASE_EPILOG)
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
    from donjon.app.keys import members

    out = output(json=json, quiet=quiet)
    space = workspace(vault, kit, passphrase_file)
    passphrase = _new_passphrase(new_passphrase_file, out)
    with out.progress("Sealing") as progress:
        added = members.add_passphrase(space, name, passphrase, progress)
    return _report_added(added, out, {}, "")


@app.command("kms", epilog=_ADD_KMS_EPILOG)
def add_kms(
    uri: Annotated[str, typer.Argument(metavar="URI", help="Address of the key; the forms are below.")],
    name: NameOption,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Let a key in a key service open the vault. Needs the kit with the root key.

    The service is asked once for each backup there is, and from now on once for each new one. Whoever may
    open with that key and can read the vault's storage can read every backup; see docs/guide-kms.md.
    """
    from donjon.app.keys import members

    out = output(json=json, quiet=quiet)
    space = workspace(vault, kit, passphrase_file)
    with out.progress("Sealing") as progress:
        added = members.add_service(space, name, uri, progress)
    return _report_added(added, out, {}, "")


@app.command("kit", epilog=_KIT_EPILOG)
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
    from donjon.app.keys import members
    from donjon.keys.passphrase import passphrase_from_file

    out = output(json=json, quiet=quiet)
    passphrase = passphrase_from_file(new_passphrase_file) if new_passphrase_file else None
    space = workspace(vault, kit, passphrase_file)
    with out.progress("Sealing") as progress:
        added = members.add_kit(space, name, out_file, passphrase, progress, with_root=with_root)
    more = {"kit": str(out_file.absolute()), "fingerprint": added.fingerprint, "root": with_root}
    text = f"\n  fingerprint  {added.fingerprint}\n  kit          {out_file}; move it off this host now"
    return _report_added(added, out, more, text)


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
    out.result(key_data(key) | resealed_data(done) | more, summary + text)
    if done.failures:
        out.warn("some sessions could not be sealed to it; see `donjon keys check`")
    return worst(done)
