"""`donjon init`: make a vault."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from donjon.cli.common import JsonOption, PassphraseOption, QuietOption, output, workspace
from donjon.core.clock import system_clock
from donjon.core.units import format_duration, parse_duration

EPILOG = """\b
Examples:
  donjon init /srv/vault --kit /media/usb/vault.kit
  donjon init sftp://backup@nas/srv/vault --kit vault.kit --lock none

\b
JSON: {"name", "url", "vault_id", "fingerprint", "kit", "lock_s",
"lock_enforcement", "writer"}."""


def init(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where: a folder, file:///… or sftp://….")],
    kit: Annotated[
        Path, typer.Option("--kit", metavar="FILE", help="Where to save the recovery kit; keep it offline.")
    ],
    passphrase_file: PassphraseOption = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call the vault on this host.")] = None,
    lock: Annotated[
        str, typer.Option("--lock", metavar="TIME|none", help="How long every object is locked.")
    ] = "30d",
    no_writer: Annotated[
        bool, typer.Option("--no-writer", help="Do not let this host write to the vault.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Make a vault and its recovery kit.

    The kit is the only thing that opens the vault: print it or copy it to a medium that leaves this host.
    """
    from donjon.app.setup import InitRequest
    from donjon.app.setup import init as make

    out = output(json=json, quiet=quiet)
    space = workspace(passphrase_file=passphrase_file)
    passphrase = None
    if space.settings.passphrase_file is not None:
        from donjon.keys.passphrase import passphrase_from_file

        passphrase = passphrase_from_file(space.settings.passphrase_file)
    lock_s = 0 if lock == "none" else parse_duration(lock)
    request = InitRequest(url, kit, name, passphrase, lock_s, not no_writer)
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
        "writer": not no_writer,
    }
    text = f"""Made the vault {made.name} at {made.url}
  id           {data["vault_id"]}
  fingerprint  {made.fingerprint}
  locks        {locks}
  kit          {kit}

Move {kit} off this host now: whoever has it can read every backup, and without it
nobody can. `donjon keys print --kit {kit}` makes a page to print.
Next: donjon backup PATH
Soon: donjon keys add kit --out FILE --name NAME, for one key alone can be lost"""
    out.result(data, text)
    return 0
