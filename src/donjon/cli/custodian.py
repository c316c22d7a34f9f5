"""`donjon custodian`: who may sign checkpoints of the vault."""

from __future__ import annotations

from typing import Final

import typer

from donjon.cli.signers import Words, put_add, put_list, put_revoke

_WORDS: Final = Words(
    "custodian",
    "safe",
    add="""Make a credential that signs checkpoints. Needs the kit with the root key.

The credential opens no backup, adds none and deletes none. Keep it on a host that backs up nothing.""",
    added="""Move FILE to the host that watches the vault. There, after each backup or every day:
donjon custody checkpoint --credential FILE --to PLACE""",
    revoke="""Accept no more checkpoints of a custodian, for ever. Needs the kit with the root key.

Checkpoints that it put into the vault before still count. Copies of them elsewhere count only as long as the
vault has them too, so sign a new one with another custodian soon.""",
    revoked="\nSign a new checkpoint with another custodian now, and publish it where the old ones are.",
)

app = typer.Typer(help="Decide who may sign checkpoints of the vault.", no_args_is_help=True)
put_add(app, _WORDS)
put_list(app, _WORDS)
put_revoke(app, _WORDS)
