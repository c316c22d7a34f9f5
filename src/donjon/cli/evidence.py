"""`donjon evidence`: what drills and checks saw, as somebody signed it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
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
from donjon.cli.output import one_line
from donjon.core.clock import iso

if TYPE_CHECKING:
    from donjon.app.evidence import Shown
    from donjon.format.evidence import EvidenceRow

_FINDINGS = 4
_INTEGRITY = 12

_ROWS = '"rows": [{"tried", "expected", "seen", "answer", "outcome"}]'

_LIST_EPILOG = """\b
Examples:
  donjon evidence list

\b
JSON: {"evidence": [{"id", "kind", "subject", "created", "stored", "passed", "rows": N, "program",
"signer", "role", "name", "standing"}], "damaged"}; standing is counts, late (its signer is revoked,
and nothing proves that it is older) or alone."""

_SHOW_EPILOG = f"""\b
Examples:
  donjon evidence show latest
  donjon evidence show 3f9a1c

\b
JSON: one of `donjon evidence list`, with
{_ROWS}; outcome is passed, failed or skipped."""

_CHECK_EPILOG = """\b
Examples:
  donjon evidence check drill.evidence
  donjon evidence check drill.evidence --vault-id 4f5e0c3a9b7d1e2f8a6b5c4d3e2f1a0b
      without the vault, for an auditor who knows its id and nothing else

\b
JSON: as for `donjon evidence show`; with --vault-id, "role" and "name" are null."""

SignOption = Annotated[
    Path | None,
    typer.Option(
        "--sign",
        metavar="FILE",
        help="Credential that signs the evidence [DONJON_AUDITOR, DONJON_CUSTODIAN, this host's].",
    ),
]
EvidenceOption = Annotated[
    Path | None, typer.Option("--evidence", metavar="FILE", help="Save the evidence in this new file too.")
]
NoEvidenceOption = Annotated[
    bool, typer.Option("--no-evidence", help="Put no evidence into the vault; with no --evidence, sign none.")
]

app = typer.Typer(help="See what drills and checks saw, and who signed it.", no_args_is_help=True)


@app.command("list", epilog=_LIST_EPILOG)
def list_(
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> int:
    """List the evidence in the vault, oldest first. Needs no key. Ends with 12 if some of it is damaged."""
    from donjon.app.evidence import list_all

    out = output(json=json)
    found, damaged = list_all(workspace(vault, kit, passphrase_file))
    for error in damaged:
        out.warn(f"{error.message}; it proves nothing")
    for shown in found:
        out.line(_line(shown))
    data = {"evidence": [_head(shown) for shown in found], "damaged": [error.message for error in damaged]}
    out.result(data, "")
    return _INTEGRITY if damaged else 0


@app.command("show", epilog=_SHOW_EPILOG)
def show(
    wanted: Annotated[str, typer.Argument(metavar="ID|latest", help="As `donjon evidence list` shows it.")],
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> int:
    """Show one piece of evidence in full: what was tried, expected and seen. Needs no key."""
    from donjon.app.evidence import show_one

    out = output(json=json)
    shown = show_one(workspace(vault, kit, passphrase_file), wanted)
    out.result(evidence_data(shown), "\n".join(_full(shown)))
    return 0


@app.command("check", epilog=_CHECK_EPILOG)
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What --evidence of a drill saved.")],
    vault_id: Annotated[
        str | None,
        typer.Option("--vault-id", metavar="ID", help="Check it without the vault, by the vault's id alone."),
    ] = None,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Check evidence in a file: who signed it, and whether that counts. Needs no key.

    Ends with 12 if it was changed or nobody signed it whom the vault's root key certified, and with 4 if what
    it tells of failed, or if its signer is revoked and nothing proves that it is older. With --vault-id
    nobody can know of revocations.
    """
    from donjon.app.evidence import check_file
    from donjon.repository.evidence import LATE, Standing

    out = output(json=json, quiet=quiet)
    shown = check_file(workspace(vault, kit, passphrase_file), file, vault_id)
    if is_late := shown.signed.standing is Standing.LATE:
        out.warn(f"{file}: {LATE}")
    elif shown.signed.standing is Standing.ALONE:
        out.warn("without the vault nobody knows whether its signer was revoked meanwhile")
    out.result(evidence_data(shown), "\n".join(_full(shown)))
    return _FINDINGS if is_late or not shown.signed.evidence.has_passed else 0


def evidence_data(shown: Shown) -> dict[str, object]:
    """Evidence in JSON, with its rows."""
    return _head(shown) | {"rows": [row_data(row) for row in shown.signed.evidence.rows]}


def row_data(row: EvidenceRow) -> dict[str, object]:
    """A row in JSON."""
    return {
        "tried": row.tried,
        "expected": row.expected,
        "seen": row.seen,
        "answer": row.answer,
        "outcome": row.outcome.value,
    }


def _head(shown: Shown) -> dict[str, object]:
    evidence, signed = shown.signed.evidence, shown.signed
    return {
        "id": signed.digest.hex(),
        "kind": evidence.kind,
        "subject": evidence.subject,
        "created": iso(evidence.created_at),
        "stored": iso(signed.stored_at) if signed.stored_at is not None else None,
        "passed": evidence.has_passed,
        "rows": len(evidence.rows),
        "program": evidence.program,
        "signer": evidence.signer.hex(),
        "role": shown.role or None,
        "name": shown.name or None,
        "standing": signed.standing.value,
    }


def _line(shown: Shown) -> str:
    evidence = shown.signed.evidence
    result = "passed" if evidence.has_passed else "FAILED"
    state = "" if shown.signed.standing.value == "counts" else f"  ({shown.signed.standing.value})"
    return (
        f"{shown.signed.digest.hex()[:12]}  {iso(evidence.created_at)}  {result}  {evidence.kind}  "
        f"{one_line(evidence.subject)}  by {_who(shown)}{state}"
    )


def _who(shown: Shown) -> str:
    short = shown.signed.evidence.signer.hex()[:12]
    return f"{shown.role} {shown.name} ({short})" if shown.name else f"{shown.role} {short}".strip()


def _full(shown: Shown) -> Iterator[str]:
    evidence, signed = shown.signed.evidence, shown.signed
    yield f"{evidence.kind}: {one_line(evidence.subject)}"
    yield f"  id        {signed.digest.hex()}"
    yield f"  when      {iso(evidence.created_at)}"
    if signed.stored_at is not None:
        yield f"  in vault  since {iso(signed.stored_at)}"
    yield f"  signed    by {_who(shown)}, with {one_line(evidence.program)}; {signed.standing.value}"
    yield from table(evidence.rows)
    yield summary(evidence.rows)


def table(rows: Sequence[EvidenceRow]) -> Iterator[str]:
    """Rows for people, in columns."""
    head = ("", "tried", "expected", "seen", "answer")
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(cell[column]) for cell in cells) for column in range(len(head))]
    for cell in cells:
        yield "  ".join(text.ljust(width) for text, width in zip(cell, widths, strict=True)).rstrip()


def _cells(row: EvidenceRow) -> tuple[str, ...]:
    outcome = "FAILED" if row.outcome.value == "failed" else row.outcome.value
    return (outcome, *(one_line(text) for text in (row.tried, row.expected, row.seen, row.answer)))


def summary(rows: Sequence[EvidenceRow]) -> str:
    """How many rows there are of each outcome."""
    from donjon.format.evidence import passed

    counted = Counter(row.outcome.value for row in rows)
    result = "passed" if passed(tuple(rows)) else "FAILED"
    told = ", ".join(f"{counted[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))
    return f"{result}: {told}"
