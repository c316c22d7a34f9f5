"""`donjon approver`: who together allows what no single person may."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from donjon.cli.common import (
    ApprovalsOption,
    ApproverOption,
    JsonOption,
    KitOption,
    PassphraseOption,
    QuietOption,
    VaultOption,
    output,
    workspace,
)
from donjon.cli.requests import (
    AskerOption,
    ExpiresOption,
    ModuleOption,
    NewFileOption,
    PinOption,
    ReasonOption,
    approver_data,
    approver_line,
    asking,
    key_choice,
    report_pending,
)
from donjon.core.clock import iso

_NEW_EPILOG = """\b
Examples:
  donjon approver new ann --out ann.approver
      then ann.approver.pub goes to whoever makes the vault
  donjon approver new ann --key 'pkcs11:token=ann;object=donjon' --out ann.pub --pin-file pin

\b
JSON: {"id", "name", "public", "credential", "key"}; credential is null for a key on a token, key
for a file."""

_LIST_EPILOG = """\b
Examples:
  donjon approver list

\b
JSON: {"approvals", "since", "approvers": [{"id", "name", "public"}]}; a hidden name is null;
no approvals and approvers mean that the vault was made without."""

_CHANGE_EPILOG = """\b
Examples:
  donjon approver change --approver ann.pub --approver dee.pub --approvals 2 --kit vault.kit
      asks the present approvers; the same again, once enough of them signed, carries it out

\b
JSON: {"changed", "approvals", "since", "approvers": [{"id", "name", "public"}]} once these approve; if
approvals are missing, which ends with 11, {"changed", "new", "request"}, the latter as for
`donjon approve show`."""

app = typer.Typer(help="Decide who together allows what no single person may.", no_args_is_help=True)


@app.command("new", epilog=_NEW_EPILOG)
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the approver.")],
    out_file: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where to save it; for a token the public half.")
    ],
    key: Annotated[
        str | None, typer.Option("--key", metavar="URI", help="On a token: pkcs11:token=T;object=K.")
    ] = None,
    pkcs11_module: ModuleOption = None,
    pin_file: PinOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Make the key of an approver, on the approver's own machine.

    The credential stays there: it opens no backup and deletes nothing by itself. Its public half is written
    beside it, to FILE.pub, and goes to whoever makes the vault. Compare the line over the telephone.

    With --key it is made on a token, which never gives it out; one that is there already is taken.
    """
    from donjon.app.approvals.approvers import new_approver, new_token_approver, public_file

    out = output(json=json, quiet=quiet)
    if key is not None:
        made = new_token_approver(name, key_choice(key, pkcs11_module, pin_file), out_file)
    else:
        made = new_approver(name, out_file)
    data = {
        "id": made.approver_id.hex(),
        "name": name,
        "public": made.text(),
        "credential": str(out_file.absolute()) if key is None else None,
        "key": key,
    }
    if key is not None:
        text = f"""{made.text()}
The approver {name} ({made.approver_id.hex()[:12]}) has the key {key}.
Give {out_file} to whoever makes the vault, for `donjon init --approver`."""
        out.result(data, text)
        return 0
    text = f"""{made.text()}
Made the approver {name} ({made.approver_id.hex()[:12]}). Keep {out_file} and show it to nobody.
Give {public_file(out_file)} to whoever makes the vault, for `donjon init --approver`."""
    out.result(data, text)
    return 0


@app.command("list", epilog=_LIST_EPILOG)
def list_(
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> int:
    """List the approvers; needs no key, but shows their names only with one."""
    from donjon.app.approvals.approvers import list_approvers

    out = output(json=json)
    found = list_approvers(workspace(vault, kit, passphrase_file))
    if found is None:
        data: dict[str, object] = {"approvals": 0, "since": None, "approvers": []}
        out.result(data, "None: the vault was made without approvers, so nothing in it can be deleted early.")
        return 0
    for member in found.members:
        out.line(approver_line(member))
    data = {
        "approvals": found.needed,
        "since": iso(found.created_at),
        "approvers": [approver_data(member) for member in found.members],
    }
    out.result(
        data, f"{found.needed} of these {len(found.members)} are needed, since {iso(found.created_at)}"
    )
    return 0


@app.command("change", epilog=_CHANGE_EPILOG)
def change(
    approver: ApproverOption = None,
    approvals: ApprovalsOption = 0,
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
    """Let others approve from now on: name all of the new ones. The present approvers have to allow it.

    The first run asks them. Once enough have signed (`donjon approve sign`), the same again carries it out,
    which needs the kit with the root key. Deletion certificates count from then on only if enough of the new
    approvers signed them.
    """
    from donjon.app.keys.changes import Pending, change_approvers
    from donjon.repository.approver_keys import ApproverKey

    out = output(json=json, quiet=quiet)
    keys = [ApproverKey.read(each) for each in approver or ()]
    choice = key_choice(key, pkcs11_module, pin_file) if key else None
    space = workspace(vault, kit, passphrase_file)
    found = change_approvers(space, keys, approvals, asking(reason, expires, file, choice))
    if isinstance(found, Pending):
        return report_pending(found, file, "the same command again, with the kit", out)
    data = {
        "changed": True,
        "approvals": found.needed,
        "since": iso(found.created_at),
        "approvers": [approver_data(member) for member in found.members],
    }
    lines = [f"From now on {found.needed} of these {len(found.members)} approvers are needed:"]
    out.result(data, "\n".join([*lines, *map(approver_line, found.members)]))
    return 0
