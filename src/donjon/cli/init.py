"""`donjon init`: make a vault."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from donjon.cli.common import (
    ApprovalsOption,
    ApproverOption,
    JsonOption,
    PassphraseOption,
    QuietOption,
    output,
    workspace,
)
from donjon.core.clock import system_clock
from donjon.core.units import format_duration, parse_duration

EPILOG = """\b
Examples:
  donjon init /srv/vault --kit /media/usb/a.kit --second-kit /media/usb2/b.kit
  donjon init sftp://backup@nas/srv/vault --kit a.kit --second-kit b.kit --lock none
  donjon init s3://my-vault --kit a.kit --second-kit b.kit --lock 30d --create
  donjon init s3://v/prod --kit a.kit --second-kit b.kit --endpoint https://nas:9000
  donjon init /srv/v --kit a.kit --key aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID
  donjon init /srv/v --kit a.kit --vault-passphrase-file F
  donjon init /srv/v --kit a.kit --single-recipient
      one key alone can be lost, and everything with it
  donjon init /srv/v --kit a.kit --second-kit b.kit --approvals 2 --approver a.pub --approver b.pub

\b
JSON: {"name", "url", "vault_id", "fingerprint", "kit", "lock_s",
"lock_enforcement", "writer", "approvals", "approvers", "keys", "second_kit",
"second_fingerprint", "recipients"}."""


def init(
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="Where: a folder, file:///…, sftp://…, s3://…, azure://… or gs://…."
        ),
    ],
    kit: Annotated[
        Path, typer.Option("--kit", metavar="FILE", help="Where to save the recovery kit; keep it offline.")
    ],
    second_kit: Annotated[
        Path | None,
        typer.Option(
            "--second-kit",
            metavar="FILE",
            help="Where to save a second kit, for another place; without root key and passphrase.",
        ),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="URI",
            help="Key in a key service that opens the vault too; repeatable. Forms: `donjon keys add kms`.",
        ),
    ] = None,
    vault_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--vault-passphrase-file",
            metavar="FILE",
            help="A passphrase that opens the vault by itself, too.",
        ),
    ] = None,
    single_recipient: Annotated[
        bool, typer.Option("--single-recipient", help="Make a vault that one key alone opens.")
    ] = False,
    passphrase_file: PassphraseOption = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call the vault on this host.")] = None,
    lock: Annotated[
        str, typer.Option("--lock", metavar="TIME|none", help="How long every object is locked.")
    ] = "30d",
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="URL", help="Where an S3 server other than AWS answers."),
    ] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make the bucket, or mend what is wrong with it.")
    ] = False,
    allow_weak_locks: Annotated[
        bool, typer.Option("--allow-weak-locks", help="Take a bucket whose default locks can be lifted.")
    ] = False,
    no_writer: Annotated[
        bool, typer.Option("--no-writer", help="Do not let this host write to the vault.")
    ] = False,
    approver: ApproverOption = None,
    approvals: ApprovalsOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Make a vault and its recovery kit.

    The kit always opens the vault: print it or copy it to a medium that leaves this host. One key can be
    lost, so a second one is needed, independent of the kit: a second kit for another place, a key in a key
    service, or a passphrase that opens the vault by itself. --passphrase-file protects the first kit only, so
    that forgetting it does not close everything.

    With --approver and --approvals some people together allow what no single person may: letting points go
    before their time, removing keys. See `donjon approver new`. They are chosen now or never.
    """
    from donjon.app.setup import InitRequest
    from donjon.app.setup import init as make
    from donjon.repository.approver_keys import ApproverKey

    out = output(json=json, quiet=quiet)
    space = workspace(passphrase_file=passphrase_file)
    passphrase = None
    if space.settings.passphrase_file is not None:
        from donjon.keys.passphrase import passphrase_from_file

        passphrase = passphrase_from_file(space.settings.passphrase_file)
    own_phrase = None
    if vault_passphrase_file is not None:
        from donjon.keys.passphrase import passphrase_from_file

        own_phrase = passphrase_from_file(vault_passphrase_file)
    lock_s = 0 if lock == "none" else parse_duration(lock)
    writer = not no_writer
    keys = tuple(map(ApproverKey.read, approver or ()))
    request = InitRequest(
        url,
        kit,
        name,
        passphrase,
        lock_s,
        writer,
        endpoint,
        create,
        allow_weak_locks,
        approvers=keys,
        approvals=approvals,
        keys=tuple(key or ()),
        second_kit=second_kit,
        vault_passphrase=own_phrase,
        single_recipient=single_recipient,
    )
    made = make(space, request, system_clock())
    locks = f"{format_duration(lock_s)}, enforcement: {made.lock_enforcement}" if lock_s else "none"
    data = {
        "name": made.name,
        "url": made.url,
        "vault_id": made.vault.vault_id.hex(),
        "fingerprint": made.fingerprint,
        "kit": str(kit.absolute()),
        "lock_s": lock_s,
        "lock_enforcement": made.lock_enforcement,
        "writer": writer,
        "approvals": approvals,
        "approvers": [each.approver_id.hex() for each in keys],
        "keys": list(request.keys),
        "second_kit": str(second_kit.absolute()) if second_kit else None,
        "second_fingerprint": made.second_fingerprint,
        "recipients": made.recipients,
    }
    single = made.recipients == 1
    who = (
        f"{approvals} of {', '.join(each.name for each in keys)}"
        if keys
        else "none: nothing can be deleted early, ever"
    )
    also = f"\n  second kit   {second_kit} ({made.second_fingerprint})" if second_kit else ""
    also += "".join(f"\n  key          {uri}" for uri in request.keys)
    also += "\n  passphrase   opens it too" if own_phrase is not None else ""
    kits = f"{kit} and {second_kit}" if second_kit else str(kit)
    places = ", to two places" if second_kit else ""
    alone = (
        "without\none of them nobody can" if second_kit else "once the other\nkeys are lost, nothing else can"
    )
    alone = "without it\nnobody can" if single else alone
    text = f"""Made the vault {made.name} at {made.url}
  id           {data["vault_id"]}
  fingerprint  {made.fingerprint}
  locks        {locks}
  kit          {kit}{also}
  approvers    {who}

Move {kits} off this host now{places}: who has a kit can read every backup, and {alone}.
`donjon keys print --kit {kit}` makes a page to print.
Next: donjon backup PATH"""
    out.result(data, text)
    if single:
        out.warn(
            "one key alone opens this vault: lose it and all is lost. "
            f"Add one: `donjon keys add kit --out FILE --name NAME --kit {kit}`"
        )
    return 0
