"""`donjon verdict`: which points are suspect, and what it takes to use one all the same."""

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
from donjon.cli.permits import mark_data, mark_line
from donjon.cli.points import SinceOption, UntilOption, WorkloadOption
from donjon.cli.requests import (
    AskerOption,
    ExpiresOption,
    ModuleOption,
    NewFileOption,
    PinOption,
    ReasonOption,
    asking,
    file_data,
    key_choice,
    request_data,
    request_text,
)
from donjon.core.clock import system_clock

if TYPE_CHECKING:
    from donjon.app.queries import PointFilter
    from donjon.app.verdicts.judging import Judged, Judging

_INTEGRITY = 12

_JUDGED = 'JSON: {"verdict", "points": [ID, ...], "signer"}; "verdict" is the id of the evidence.'

_SUSPECT_EPILOG = f"""\b
Examples:
  donjon verdict suspect 3f9a1c 77be02 --sign eve.auditor --reason 'ticket 4711'
  donjon verdict suspect --workload web --since 2026-11-23T10:00 --sign eve.auditor --kit vault.kit

\b
{_JUDGED}"""

_CLEAN_EPILOG = f"""\b
Examples:
  donjon verdict clean 3f9a1c --sign eve.auditor --reason 'scanned, ticket 4711'

\b
{_JUDGED}"""

_LIST_EPILOG = """\b
Examples:
  donjon verdict list

\b
JSON: {"marks": [{"point", "state", "shown", "verdict", "signed", "signer", "role", "name", "reason"}],
"damaged"}; state is stands (the point is suspect), lifted, or uncounted (a writer signed it, or somebody who
had been revoked); "shown" is false if the store does not show it and this host remembers it."""

_REQUEST_EPILOG = """\b
Examples:
  donjon verdict request 3f9a1c --reason 'forensics, ticket 4711'
  donjon verdict request web@latest --file web.json --kit vault.kit
      for approvers who cannot put into the vault

\b
JSON: as for `donjon approve show`, with "new"."""

PointsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[POINT...]", help="As `donjon points` shows them.")
]
JudgeOption = Annotated[
    Path | None,
    typer.Option(
        "--sign",
        metavar="FILE",
        help="Credential of an auditor or a custodian, which signs [DONJON_AUDITOR, DONJON_CUSTODIAN].",
    ),
]

app = typer.Typer(help="Mark points as suspect, and lift that again.", no_args_is_help=True)


@app.command("suspect", epilog=_SUSPECT_EPILOG)
def suspect(
    point: PointsArgument = None,
    workload: WorkloadOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    reason: ReasonOption = None,
    sign: JudgeOption = None,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Mark points as suspect: from then on Donjon restores, mounts and dumps them only if approvers allow it.

    In a vault without approvers it takes --although-suspect. Listing, searching, comparing and verifying stay
    free. The mark is evidence in the vault, signed by an auditor or a custodian, for the points that are
    there now; which points are marked everybody sees who reads the store. Ids need no key; a workload, names
    such as latest, and a reason do.
    """
    from donjon.app.verdicts.judging import mark

    judging = _judging(point, _filter(workload, since, until), reason, sign)
    done = mark(workspace(vault, kit, passphrase_file), judging)
    return _report(done, "suspect now", json=json, quiet=quiet)


@app.command("clean", epilog=_CLEAN_EPILOG)
def clean(
    point: PointsArgument = None,
    reason: ReasonOption = None,
    sign: JudgeOption = None,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Lift all marks that make points suspect; an auditor or a custodian signs that, whoever marked them."""
    from donjon.app.verdicts.judging import lift

    judging = _judging(point, None, reason, sign)
    done = lift(workspace(vault, kit, passphrase_file), judging)
    return _report(done, "clean again", json=json, quiet=quiet)


@app.command("list", epilog=_LIST_EPILOG)
def list_(
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> int:
    """List the marks on points, oldest first, and whether they stand. Needs no key.

    Ends with 12 if evidence is damaged, as it may tell of suspect points.
    """
    from donjon.app.verdicts.judging import list_marks

    out = output(json=json)
    marks, found = list_marks(workspace(vault, kit, passphrase_file))
    for row in marks:
        hidden = "" if row.is_shown else "; the store does not show it"
        out.line(f"{row.point_id.hex()[:12]}  {row.stand.value:<9}  {mark_line(row.mark)}{hidden}")
    if not marks:
        out.line("No point was marked as suspect.")
    for error in found.damaged:
        out.warn(f"{error.message}; it proves nothing")
    rows = [
        {"point": row.point_id.hex(), "state": row.stand.value, "shown": row.is_shown} | mark_data(row.mark)
        for row in marks
    ]
    out.result({"marks": rows, "damaged": [error.message for error in found.damaged]}, "")
    return _INTEGRITY if found.damaged else 0


@app.command("request", epilog=_REQUEST_EPILOG)
def request(
    point: Annotated[str, typer.Argument(metavar="POINT", help="As `donjon points` shows it.")],
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
    """Ask the approvers to let a suspect point be restored, mounted and dumped, until the request expires.

    It is for this point with the marks that it has now: another mark takes another request. Once enough have
    signed, give the command again that was refused.
    """
    from donjon.app.verdicts.permits import ask_for_use

    out = output(json=json, quiet=quiet)
    choice = key_choice(key, pkcs11_module, pin_file) if key else None
    space = workspace(vault, kit, passphrase_file)
    asked, is_new = ask_for_use(space, point, asking(reason, expires, file, choice))
    which = f"--file {file}" if file else asked.request.request_id.hex()[:12]
    text = f"""{request_text(asked)}
  each approver:  donjon approve sign {which} --key KEY
  then:           donjon restore {point} TARGET{f" --approval {file}" if file else ""}"""
    if not is_new:
        text = f"This was asked before.\n{text}"
    out.result(request_data(asked) | file_data(file) | {"new": is_new}, text)
    return 0


def _filter(workload: str | None, since: str | None, until: str | None) -> PointFilter | None:
    from donjon.app.queries import PointFilter, parse_since, parse_until

    if workload is None and since is None and until is None:
        return None
    now = system_clock()
    first = parse_since(since, now) if since else None
    return PointFilter(workload, since=first, until=parse_until(until, now) if until else None)


def _judging(
    point: list[str] | None, wanted: PointFilter | None, reason: str | None, sign: Path | None
) -> Judging:
    from donjon.app.verdicts.judging import Judging

    return Judging(tuple(point or ()), wanted, reason, sign, os.environ)


def _report(done: Judged, state: str, *, json: bool, quiet: bool) -> int:
    signed = done.recorded.signed
    ids = [point.point_id.hex() for point in done.points]
    named = ", ".join(one[:12] for one in ids)
    text = f"{named}: {state}; verdict {signed.digest.hex()[:12]}"
    data = {"verdict": signed.digest.hex(), "points": ids, "signer": signed.evidence.signer.hex()}
    output(json=json, quiet=quiet).result(data, text)
    return 0
