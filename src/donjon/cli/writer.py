"""`donjon writer`: which hosts may back up to the vault."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

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
from donjon.cli.requests import (
    NOT_APPROVED,
    AskerOption,
    ExpiresOption,
    ModuleOption,
    NewFileOption,
    PinOption,
    ReasonOption,
    asking,
    file_data,
    key_choice,
    request_data,
    request_text,
)
from donjon.cli.signers import Words, put_add, put_revoke, signer_data, signer_line
from donjon.core.clock import iso

_LIST_EPILOG = """\b
Examples:
  donjon writer list

\b
JSON: {"writers": [{"id", "name", "created", "revoked", "key", "key_since"}]}; a hidden
name is null, and so is "revoked" while the writer may write. Keys count from 0."""

_REKEY_EPILOG = """\b
Examples:
  donjon writer rekey web1 --last 3f9a1c --out web1.writer --kit vault.kit
  donjon writer rekey web1 --last latest --out web1.writer --key ann.approver
      an approver asks, on the host itself

\b
JSON: as for `donjon approve show`, with "credential"."""

_WORDS: Final = Words(
    "writer",
    "web1",
    add="""Make a credential for another host. Needs the kit with the root key.

The credential can add backups. It opens none and deletes none.""",
    added="Copy FILE to that host over a safe way, run `donjon enrol` with it there, and remove the file.",
    then="\n      then on web1: donjon enrol web1.writer",
    revoke="""Accept no more backups of a writer, for ever. Needs the kit with the root key.

What it put before stays and can be restored. What its key puts from now on is told apart by the time that the
storage stamped on it.""",
    revoked="""; its backups stay and can be restored.
Take its credential for the storage away too: this record does not stop a thief from putting objects.""",
)

app = typer.Typer(help="Decide which hosts may back up to the vault.", no_args_is_help=True)
put_add(app, _WORDS)


@app.command("list", epilog=_LIST_EPILOG)
def list_(
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> int:
    """List the writers; needs no key, but shows their names only with one."""
    from donjon.app.signers.certified import list_writers

    out = output(json=json)
    found = list_writers(workspace(vault, kit, passphrase_file))
    for one in found:
        state = f"may write, with key {one.key} since {iso(one.key_since)}" if one.key else "may write"
        out.line(signer_line(one.writer, one.label, state))
    writers = [
        signer_data(one.writer, one.label) | {"key": one.key, "key_since": iso(one.key_since)}
        for one in found
    ]
    out.result({"writers": writers}, "")
    return 0


@app.command("rekey", epilog=_REKEY_EPILOG)
def rekey(
    writer: Annotated[str, typer.Argument(metavar="ID|NAME", help="As `donjon writer list` shows it.")],
    last: Annotated[
        str,
        typer.Option(
            "--last",
            metavar="POINT",
            help="Its last point that counts, by its id; `latest`; or `none`.",
        ),
    ],
    out_file: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where to save the credential with the new key.")
    ],
    reason: ReasonOption = None,
    expires: ExpiresOption = "7d",
    file: NewFileOption = None,
    key: AskerOption = None,
    pkcs11_module: ModuleOption = None,
    pin_file: PinOption = None,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Ask approvers to let a new key sign for a writer whose key is lost or stolen. Ends with 11: they have
    to sign first.

    The writer keeps its id, its points and its packs; of what its keys signed until now, nothing counts that
    comes after --last. Needs a key of the vault: a kit, a passphrase, or the writer credential of this host.
    """
    from donjon.app.signers.writer_rekey import ask_for_key

    out = output(json=json, quiet=quiet)
    choice = key_choice(key, pkcs11_module, pin_file) if key else None
    space = workspace(vault, kit, passphrase_file)
    asked = ask_for_key(space, writer, last, out_file, asking(reason, expires, file, choice))
    which = f"--file {file}" if file else asked.request.request_id.hex()[:12]
    data = request_data(asked) | file_data(file) | {"credential": str(out_file.absolute())}
    needed = f"{asked.approvers.needed} of the {len(asked.approvers.members)}"
    text = f"""{request_text(asked)}
Nothing was changed yet: {needed} approvers have to allow it.
  each of them:   donjon approve sign {which} --key KEY
  then:           donjon approve apply {which} --credential {out_file}
  on that host:   donjon enrol {out_file}
Take the old access to the storage away first: whoever has the old key can take the place of the new one."""
    out.result(data, text)
    return NOT_APPROVED


put_revoke(app, _WORDS)
