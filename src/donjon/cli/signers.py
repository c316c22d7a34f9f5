"""What `donjon writer`, `custodian` and `auditor` have in common: certifying, listing and revoking."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from donjon.core.clock import iso

if TYPE_CHECKING:
    from donjon.app.signers.certified import Role
    from donjon.repository.keyring import Writer

_ADD_EPILOG = """\b
Examples:
  donjon {word} add {name} --out {name}.{word} --kit vault.kit{then}

\b
JSON: {{"id", "name", "url", "credential"}}."""

_LIST_EPILOG = """\b
Examples:
  donjon {word} list

\b
JSON: {{"{word}s": [{{"id", "name", "created", "revoked"}}]}}; a hidden name is null,
and so is "revoked" while the {word} may sign."""

_REVOKE_EPILOG = """\b
Examples:
  donjon {word} revoke {name} --kit vault.kit

\b
JSON: {{"id", "name", "created", "revoked"}}."""


@dataclass(frozen=True, slots=True)
class Words:
    """How one role is spoken of: its name, that of an example, and the helps of its commands.

    ``added`` and ``revoked`` are what to do next; FILE stands for the new credential. ``then`` goes on with
    the example.
    """

    word: str
    example: str
    add: str
    added: str
    revoke: str
    revoked: str = ""
    then: str = ""

    @property
    def role(self) -> Role[Any]:
        """What the signers' room knows of it."""
        from donjon.app.signers import certified  # here, for helps need none of it

        roles: tuple[Role[Any], ...] = (certified.WRITER, certified.CUSTODIAN, certified.AUDITOR)
        return next(role for role in roles if role.word == self.word)


def put_add(app: typer.Typer, words: Words) -> None:
    """The command that certifies one more."""
    epilog = _ADD_EPILOG.format(word=words.word, name=words.example, then=words.then)

    @app.command("add", epilog=epilog, help=words.add)
    def add(
        name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
        out_file: Annotated[
            Path, typer.Option("--out", metavar="FILE", help="Where to save the credential.")
        ],
        vault: VaultOption = None,
        kit: KitOption = None,
        passphrase_file: PassphraseOption = None,
        json: JsonOption = False,
        quiet: QuietOption = False,
    ) -> int:
        from donjon.app.signers.certified import add_signer

        out = output(json=json, quiet=quiet)
        made = add_signer(workspace(vault, kit, passphrase_file), words.role, name, out_file)
        signer_id = made.signer_id.hex()
        data = {"id": signer_id, "name": name, "url": made.url, "credential": str(out_file.absolute())}
        next_steps = words.added.replace("FILE", str(out_file))
        out.result(data, f"Certified the {words.word} {name} ({signer_id[:12]})\n{next_steps}")
        return 0


def put_list(app: typer.Typer, words: Words) -> None:
    """The command that lists all of them."""

    @app.command(
        "list",
        epilog=_LIST_EPILOG.format(word=words.word),
        help=f"List the {words.word}s; needs no key, but shows their names only with one.",
    )
    def list_(
        vault: VaultOption = None,
        kit: KitOption = None,
        passphrase_file: PassphraseOption = None,
        json: JsonOption = False,
    ) -> int:
        from donjon.app.signers.certified import list_signers

        out = output(json=json)
        found = list_signers(workspace(vault, kit, passphrase_file), words.role)
        for signer, label in found:
            out.line(signer_line(signer, label, "may sign"))
        out.result({f"{words.word}s": [signer_data(signer, label) for signer, label in found]}, "")
        return 0


def put_revoke(app: typer.Typer, words: Words) -> None:
    """The command that revokes one for ever."""
    epilog = _REVOKE_EPILOG.format(word=words.word, name=words.example)

    @app.command("revoke", epilog=epilog, help=words.revoke)
    def revoke(
        wanted: Annotated[str, typer.Argument(metavar="ID|NAME", help="As `list` shows it.")],
        vault: VaultOption = None,
        kit: KitOption = None,
        passphrase_file: PassphraseOption = None,
        json: JsonOption = False,
        quiet: QuietOption = False,
    ) -> int:
        from donjon.app.signers.certified import revoke_signer

        out = output(json=json, quiet=quiet)
        gone, label = revoke_signer(workspace(vault, kit, passphrase_file), words.role, wanted)
        text = f"Revoked {label} ({gone.writer_id.hex()[:12]})"
        out.result(signer_data(gone, label), f"{text}{words.revoked}")
        return 0


def signer_line(signer: Writer, label: str, may: str) -> str:
    """One who signs, for people; ``may`` is what it may do while it is not revoked."""
    state = f"revoked {iso(signer.revoked_at)}" if signer.revoked_at is not None else may
    return f"{signer.writer_id.hex()[:12]}  {iso(signer.created_at)}  {label or '(name hidden)'}  {state}"


def signer_data(signer: Writer, label: str) -> dict[str, object]:
    """One who signs, in JSON."""
    return {
        "id": signer.writer_id.hex(),
        "name": label or None,
        "created": iso(signer.created_at),
        "revoked": iso(signer.revoked_at) if signer.revoked_at is not None else None,
    }
