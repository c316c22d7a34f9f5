"""`donjon approve`: what approvers are asked, and their answers."""

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
    YesOption,
    consent,
    output,
    workspace,
)
from donjon.cli.requests import (
    KeyOption,
    ModuleOption,
    PinOption,
    file_data,
    held_text,
    key_choice,
    request_data,
    request_text,
    signed_text,
)

_INTEGRITY = 12

_LIST_EPILOG = """\b
Examples:
  donjon approve list
  donjon approve list --all --kit vault.kit

\b
JSON: {"requests": [...], "damaged"}, each as for `donjon approve show`, without "file"."""

_SHOW_EPILOG = """\b
Examples:
  donjon approve show 3f9a1c
  donjon approve show 3f9a1c --out request.json
      for an approver who cannot put into the vault
  donjon approve show --file request.json

\b
JSON: {"id", "state", "operation", "asked_by", "created", "expires", "reason", "approvals", "signed",
"missing", "file"} and, by the operation, "points" ("locked_until", "lock_enforcement"), "approvers"
("new_approvals", "gone"), "key", "writer" and "last_point", "plan" and "new_plan", or "point" and
"marks" (as "suspect" of `donjon points`); state is open, approved, done, expired or void; what is hidden is
null."""

_SIGN_EPILOG = """\b
Examples:
  donjon approve sign 3f9a1c --key ann.approver
  donjon approve sign 3f9a1c --key 'pkcs11:token=ann;object=donjon' --pkcs11-module /usr/lib/token.so
  donjon approve sign --file request.json --key ann.approver

\b
JSON: as for `donjon approve show`."""

_APPLY_EPILOG = """\b
Examples:
  donjon approve apply 3f9a1c
  donjon approve apply 3f9a1c --kit vault.kit
      a change of keys or approvers needs the kit with the root key
  donjon approve apply --file request-ann.json --file request-bo.json
  donjon approve apply 3f9a1c --credential web1.writer
      a writer's next key needs the file that holds it

\b
JSON: as for `donjon approve show`, with "new" and "certificate" (null but for points)."""

app = typer.Typer(help="See, sign and carry out what approvers are asked.", no_args_is_help=True)

IdArgument = Annotated[
    str | None, typer.Argument(metavar="[REQUEST]", help="Its id, or the first 6 characters or more.")
]
FilesOption = Annotated[
    list[Path] | None,
    typer.Option("--file", metavar="FILE", help="A request as a file, or a copy of it; repeatable."),
]


@app.command("list", epilog=_LIST_EPILOG)
def list_(
    all_: Annotated[bool, typer.Option("--all", help="Also those that are done, expired or void.")] = False,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> int:
    """List the requests in the vault that approvers can still sign. Ends with 12 if something is forged.

    Needs no key, but shows names only with one.
    """
    from donjon.app.approvals.requests import list_asked

    out = output(json=json)
    listed = list_asked(workspace(vault, kit, passphrase_file), finished=all_)
    for asked in listed.requests:
        out.line(request_text(asked))
    if not listed.requests:
        out.line("No requests." if all_ else "No open requests.")
    for error in listed.damaged:
        out.warn(f"{error.message}; it counts for nothing")
    rows = [request_data(asked) for asked in listed.requests]
    out.result({"requests": rows, "damaged": [error.message for error in listed.damaged]}, "")
    return _INTEGRITY if listed.damaged else 0


@app.command("show", epilog=_SHOW_EPILOG)
def show(
    request: IdArgument = None,
    file: FilesOption = None,
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it to a file, with all signatures.")
    ] = None,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> int:
    """Show what a request asks for, how far it has come, and who signed. Needs no key."""
    from donjon.app.approvals.requests import show as look

    out = output(json=json)
    asked = look(workspace(vault, kit, passphrase_file), request, file or [], out_file)
    wrote = f"\nWrote {out_file}." if out_file else ""
    out.result(request_data(asked) | file_data(out_file), request_text(asked) + wrote)
    return 0


@app.command("sign", epilog=_SIGN_EPILOG)
def sign(
    key: KeyOption,
    request: IdArgument = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Sign a request in a file; the vault stays as it is."),
    ] = None,
    pkcs11_module: ModuleOption = None,
    pin_file: PinOption = None,
    yes: YesOption = False,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Sign a request as an approver, after seeing what it asks for. The signature goes into the vault.

    What is shown comes from the bytes that are signed and from the vault, never from other lines of a file.
    Without a key of the vault names and sizes are hidden: compare the ids. Nothing happens by signing alone.
    """
    from donjon.app.approvals.requests import sign as sign_it

    out = output(json=json, quiet=quiet)
    asked = sign_it(
        workspace(vault, kit, passphrase_file),
        request,
        file,
        key_choice(key, pkcs11_module, pin_file),
        lambda found: consent(request_text(found), yes=yes, show_on_stderr=json),
    )
    out.result(request_data(asked) | file_data(file), signed_text(asked))
    return 0


@app.command("apply", epilog=_APPLY_EPILOG)
def apply(
    request: IdArgument = None,
    file: FilesOption = None,
    credential: Annotated[
        Path | None,
        typer.Option("--credential", metavar="FILE", help="What `donjon writer rekey` made."),
    ] = None,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Carry out a request that enough approvers signed. Signatures in the vault and in files count together.

    To change keys or approvers needs the kit with the root key; a writer's next key needs the file that holds
    it. To let points go needs no key: a certificate is put, which the reaper checks itself, and it is told
    until when locks hold all the same.
    """
    from donjon.app.approvals.requests import apply as carry_out
    from donjon.app.approvals.views import Deletion

    out = output(json=json, quiet=quiet)
    done = carry_out(workspace(vault, kit, passphrase_file), request, file or [], credential)
    certificate = done.certificate.name if done.certificate else None
    text = "Done" if done.is_new else "Was done before"
    lines = [f"{text}{f': {certificate}' if certificate else ''}", request_text(done.asked)]
    if isinstance(done.asked.what, Deletion):
        lines.append(held_text(done.asked.what))
    data = request_data(done.asked) | {"new": done.is_new, "certificate": certificate}
    out.result(data, "\n".join(lines))
    return 0
