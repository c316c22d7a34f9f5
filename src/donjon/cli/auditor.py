"""`donjon auditor`: who may sign evidence, and nothing else."""

from __future__ import annotations

from typing import Final

import typer

from donjon.cli.signers import Words, put_add, put_list, put_revoke

_WORDS: Final = Words(
    "auditor",
    "eve",
    add="""Make a credential that signs what drills and checks saw. Needs the kit with the root key.

The credential opens no backup, adds none, signs no checkpoint and deletes nothing.""",
    added="Move FILE to the machine that runs the drills, and name it there with --sign or DONJON_AUDITOR.",
    revoke="""Accept no more evidence of an auditor, for ever. Needs the kit with the root key.

What it put into the vault before still counts. A file counts only if the vault had the same bytes before.""",
)

app = typer.Typer(help="Decide who may sign evidence, and nothing else.", no_args_is_help=True)
put_add(app, _WORDS)
put_list(app, _WORDS)
put_revoke(app, _WORDS)
