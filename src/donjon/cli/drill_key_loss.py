"""`donjon drill key-loss`: does everything open once the KMS is lost?"""

from __future__ import annotations

import os
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
from donjon.cli.evidence import EvidenceOption, NoEvidenceOption, SignOption, row_data, summary, table
from donjon.cli.interrupt import stopping

if TYPE_CHECKING:
    from donjon.app.drills.key_loss import Drilled

_FINDINGS = 4
_OUTLOOK = "Nothing was changed and nothing was signed. Run the drill again."

EPILOG = """\b
Examples:
  donjon drill key-loss --kit vault.kit
  donjon drill key-loss --kit second.kit --evidence drill.evidence
  donjon drill key-loss --share share-1-of-3.txt --share share-3-of-3.txt
      with the kit that these shares make, in memory only

Ends with 4 if anything does not open, with 13 if the kit is none of this vault.

\b
JSON: {"subject", "passed", "rows": [{"tried", "expected", "seen", "answer", "outcome"}],
"evidence": {"id", "places"}}; evidence is null if none was signed."""


def key_loss(
    kit: KitOption = None,
    share: Annotated[
        list[Path] | None,
        typer.Option("--share", metavar="FILE", help="A share of the kit, instead of the kit; repeatable."),
    ] = None,
    chunks: Annotated[
        int,
        typer.Option("--chunks", metavar="N", min=0, help="How many chunks of data to read of each point."),
    ] = 4,
    evidence: EvidenceOption = None,
    no_evidence: NoEvidenceOption = False,
    sign: SignOption = None,
    vault: VaultOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Prove that every point opens with the recovery kit alone, as if all key services were lost.

    The drill takes the vault's key services away from itself, and tells if anything asks for one all the
    same. It opens the key of every session with the kit, the manifest and the tree of every point, and
    reads some chunks of each, others every time. The result is signed evidence, in the vault and with
    --evidence in a file. Nothing else is written.
    """
    from donjon.app.drills.key_loss import Wanted
    from donjon.app.drills.key_loss import key_loss as drill

    out = output(json=json, quiet=quiet)
    wanted = Wanted(tuple(share or ()), chunks, sign=sign, out=evidence, in_vault=not no_evidence)
    space = workspace(vault, kit, passphrase_file)
    with stopping(_OUTLOOK) as stop, out.progress("Opening") as progress:
        done = drill(space, wanted, os.environ, progress, stop)
    out.result(_data(done), "\n".join(_lines(done)))
    if done.failure is not None:
        raise done.failure
    return 0 if done.has_passed else _FINDINGS


def _data(done: Drilled) -> dict[str, object]:
    recorded = done.recorded
    return {
        "subject": done.subject,
        "passed": done.has_passed,
        "rows": [row_data(row) for row in done.rows],
        "evidence": {"id": recorded.signed.digest.hex(), "places": recorded.places} if recorded else None,
    }


def _lines(done: Drilled) -> list[str]:
    lines = [f"Opened {done.subject}", *table(done.rows), summary(done.rows)]
    if done.recorded is not None:
        lines.append(f"Evidence {done.recorded.signed.digest.hex()[:12]}")
        lines += [f"  {place}" for place in done.recorded.places]
    return lines
