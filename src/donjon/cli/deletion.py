"""`donjon deletion`: let points go before their time, if enough approvers sign."""

from __future__ import annotations

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
from donjon.cli.output import one_line
from donjon.cli.requests import (
    AskerOption,
    ExpiresOption,
    ModuleOption,
    NewFileOption,
    PinOption,
    ReasonOption,
    asking,
    deletion_data,
    deletion_lines,
    file_data,
    key_choice,
    request_data,
    request_text,
)
from donjon.core.clock import iso

if TYPE_CHECKING:
    from donjon.app.approvals.deletions import Certified

_INTEGRITY = 12

_REQUEST_EPILOG = """\b
Examples:
  donjon deletion request 3f9a1c 77be02 --reason 'ticket 4711'
  donjon deletion request 3f9a1c --file gdpr.json --expires 30d
      for approvers who cannot put into the vault

\b
JSON: as for `donjon approve show`, with "new"."""

_LIST_EPILOG = """\b
Examples:
  donjon deletion list

\b
JSON: {"certificates": [{"certificate", "standing", "stored", "created", "approvals", "signed", "reason",
"locked_until", "lock_enforcement", "points": [{"id", "time", "workload", "bytes", "writer_name", "present",
"locked_until"}]}], "damaged"}; standing is counts, outdated (its approvers were
replaced), late or expired."""

app = typer.Typer(help="Let points go early, if enough approvers sign.", no_args_is_help=True)


@app.command("request", epilog=_REQUEST_EPILOG)
def request(
    point: Annotated[list[str], typer.Argument(metavar="POINT...", help="As `donjon points` shows them.")],
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
    """Ask the approvers to let points go before retention does. Nothing is deleted by this.

    Who asks is told: the kit with the root key, this host if it is enrolled, or an approver with --key. Names
    such as latest need a key of the vault, and so does a reason; ids do not.
    """
    from donjon.app.approvals.deletions import request_deletion

    out = output(json=json, quiet=quiet)
    choice = key_choice(key, pkcs11_module, pin_file) if key else None
    space = workspace(vault, kit, passphrase_file)
    asked, is_new = request_deletion(space, point, asking(reason, expires, file, choice))
    which = f"--file {file}" if file else asked.request.request_id.hex()[:12]
    text = f"""{request_text(asked)}
  each approver:  donjon approve sign {which} --key KEY
  then:           donjon approve apply {which}"""
    if not is_new:
        text = f"This was asked before.\n{text}"
    out.result(request_data(asked) | file_data(file) | {"new": is_new}, text)
    return 0


@app.command("list", epilog=_LIST_EPILOG)
def list_(
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> int:
    """List the certificates in the vault and what they let go. Ends with 12 if one is forged or damaged."""
    from donjon.app.approvals.deletions import list_deletions

    out = output(json=json)
    listed = list_deletions(workspace(vault, kit, passphrase_file))
    for row in listed.certificates:
        out.line(_text(row))
    if not listed.certificates:
        out.line("No certificates.")
    for error in listed.damaged:
        out.warn(f"{error.message}; it counts for nothing")
    rows = [_data(row) for row in listed.certificates]
    out.result({"certificates": rows, "damaged": [error.message for error in listed.damaged]}, "")
    return _INTEGRITY if listed.damaged else 0


def _text(row: Certified) -> str:
    certificate = row.certificate
    state = "" if certificate.counts else f"; {certificate.standing.value}: it does not count"
    lines = [f"{certificate.name}  {iso(certificate.stored_at)}{state}", *deletion_lines(row.deletion)]
    if row.reason != "":
        lines.append(f"Reason: {'(hidden)' if row.reason is None else one_line(row.reason)}")
    signed = ", ".join(map(one_line, row.signers))
    lines.append(f"Signed by {signed}; {certificate.approvers.needed} approvers are needed.")
    return "\n".join(lines)


def _data(row: Certified) -> dict[str, object]:
    certificate = row.certificate
    return {
        "certificate": certificate.name,
        "standing": certificate.standing.value,
        "stored": iso(certificate.stored_at),
        "created": iso(certificate.request.created_at),
        "approvals": certificate.approvers.needed,
        "signed": row.signers,
        "reason": row.reason,
        **deletion_data(row.deletion),
    }
