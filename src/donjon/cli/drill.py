"""`donjon drill`: try in earnest what must not work."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.common import (
    JsonOption,
    QuietOption,
    VaultOption,
    output,
    workspace,
)
from donjon.cli.evidence import EvidenceOption, NoEvidenceOption, SignOption, row_data, summary, table
from donjon.cli.interrupt import stopping
from donjon.core.clock import iso
from donjon.core.errors import UsageError

if TYPE_CHECKING:
    from donjon.app.drills.attack import Drilled
    from donjon.drills.base import Leftover, Role

_FINDINGS = 4
_OUTLOOK = "The settings of the bucket are as before, and nothing was signed. Run the drill again."

_ATTACK_EPILOG = """\b
Examples:
  donjon drill attack --as writer --profile backup-writer
  donjon drill attack --profile production-admin --evidence drill.evidence
      whose expectations are those of an outsider: everything must be refused
  donjon drill attack --as administrator --intrusive --known lock-bomb

\b
JSON: {"subject", "passed", "rows": [{"tried", "expected", "seen", "answer", "outcome"}],
"failed": [names of attacks], "advice": [what to do then], "stays": [{"object", "until", "why"}],
"evidence": {"id", "places"}}; evidence is null if none was signed, until is null for what is not locked."""

app = typer.Typer(
    help="Try in earnest what must not work, or what must, and sign what was seen.", no_args_is_help=True
)


@app.callback()
def _group() -> None:
    """Try in earnest what must not work, or what must, and sign what was seen."""


@app.command("attack", epilog=_ATTACK_EPILOG)
def attack(
    role: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="ROLE",
            help="Whose credential: writer, reader, custodian, reaper, auditor, administrator, outsider.",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", metavar="P", help="AWS profile that attacks; an outsider's unless --as says other."
        ),
    ] = None,
    intrusive: Annotated[
        bool, typer.Option("--intrusive", help="Change settings for a moment, too, and put them back.")
    ] = False,
    known: Annotated[
        list[str] | None,
        typer.Option("--known", metavar="ATTACK", help="Known to go through, and accepted; repeatable."),
    ] = None,
    evidence: EvidenceOption = None,
    no_evidence: NoEvidenceOption = False,
    sign: SignOption = None,
    vault: VaultOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Try to destroy, weaken, read or flood the vault, as one of its roles or as anybody else.

    Everything is tried on canaries, objects of the drill's own among those of the vault, and no setting is
    left changed. The result is signed evidence, in the vault and with --evidence in a file. Ends with 4 if
    anything went through that should not.
    """
    from donjon.app.drills.attack import attack as drill
    from donjon.app.drills.stores import Wanted

    out = output(json=json, quiet=quiet)
    wanted = Wanted(
        _role(role, profile),
        profile,
        intrusive=intrusive,
        accepted=frozenset(known or ()),
        sign=sign,
        out=evidence,
        in_vault=not no_evidence,
    )
    with stopping(_OUTLOOK) as stop, out.progress("Attacking") as progress:
        done = drill(workspace(vault), wanted, os.environ, progress, stop)
    out.result(_data(done), "\n".join(_lines(done)))
    if done.failure is not None and done.has_passed:
        raise done.failure
    if done.failure is not None:
        out.warn(f"not signed: {done.failure.message}")
    return 0 if done.has_passed else _FINDINGS


def _role(role: str | None, profile: str | None) -> Role:
    from donjon.drills.base import Role

    if role is None and profile is None:
        msg = "the drill has to know whose credential attacks"
        raise UsageError(msg, hint="Say so with --as ROLE, with --profile P, or with both.")
    try:
        return Role(role) if role is not None else Role.OUTSIDER
    except ValueError:
        msg = f"there is no role {role!r}"
        raise UsageError(msg, hint=f"The roles are {', '.join(Role)}.") from None


def _data(done: Drilled) -> dict[str, object]:
    recorded = done.recorded
    return {
        "subject": done.subject,
        "passed": done.has_passed,
        "rows": [row_data(row) for row in done.report.rows],
        "failed": done.report.failed,
        "advice": done.report.advice if done.report.failed else [],
        "stays": [
            {"object": left.name, "until": _until(left), "why": left.why} for left in done.report.leftovers
        ],
        "evidence": {"id": recorded.signed.digest.hex(), "places": recorded.places} if recorded else None,
    }


def _until(left: Leftover) -> str | None:
    return iso(left.locked_until) if left.locked_until is not None else None


def _lines(done: Drilled) -> list[str]:
    report = done.report
    lines = [f"Attacked {done.subject}", *table(report.rows), summary(report.rows)]
    if report.failed:
        lines.append(f"Went through and should not: {', '.join(report.failed)}")
        lines += report.advice
    if report.leftovers:
        last = max((left.locked_until or 0 for left in report.leftovers), default=0)
        ends = f", the last lock until {iso(last)}" if last else ""
        lines.append(f"{len(report.leftovers)} objects of the drill stay{ends}:")
        lines += [f"  {left.name}  {_until(left) or 'not locked'}  {left.why}" for left in report.leftovers]
    if done.recorded is not None:
        lines.append(f"Evidence {done.recorded.signed.digest.hex()[:12]}")
        lines += [f"  {place}" for place in done.recorded.places]
    return lines
