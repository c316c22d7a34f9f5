"""`donjon drill postgres`: does a server of PostgreSQL come back?"""

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
from donjon.cli.permits import AlthoughOption, ApprovalOption, permit
from donjon.cli.postgres import LsnOption, NoWalOption, TimeOption, check_goal
from donjon.core.errors import UsageError
from donjon.core.units import format_duration, parse_duration

if TYPE_CHECKING:
    from donjon.app.postgres.drill import Check, Drilled

_FINDINGS = 4
_OUTLOOK = "The server of the drill is gone, and nothing was signed. Run the drill again."

EPILOG = """\b
Examples:
  donjon drill postgres shop@latest
  donjon drill postgres shop@latest --to-time 2026-11-23T09:59:30+01:00
  donjon drill postgres shop@latest --check 'orders: SELECT count(*) > 1000 FROM orders'

\b
JSON: {"subject", "point", "passed", "duration_s", "segments", "rows": [{"tried", "expected", "seen",
"answer", "outcome"}], "values", "notes", "evidence": {"id", "places"}}; values are what the queries
gave, duration_s is null if the server never opened, evidence is null if none was signed."""


def postgres(
    point: Annotated[str, typer.Argument(metavar="POINT", help="WORKLOAD@latest, WORKLOAD@TIME or an id.")],
    to_time: TimeOption = None,
    to_lsn: LsnOption = None,
    no_wal: NoWalOption = False,
    check: Annotated[
        list[str] | None,
        typer.Option(
            "--check",
            metavar="'DATABASE: SQL'",
            help="A query that must give a row whose first value is neither null nor false; repeatable.",
        ),
    ] = None,
    no_amcheck: Annotated[
        bool, typer.Option("--no-amcheck", help="Do not read all tables and indexes with pg_amcheck.")
    ] = False,
    run_as: Annotated[
        str | None, typer.Option("--run-as", metavar="USER", help="For root: who runs the server [postgres].")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="Where there is room for the server [TMPDIR]."),
    ] = None,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="How long recovery may take: 4h.")
    ] = "4h",
    evidence: EvidenceOption = None,
    no_evidence: NoEvidenceOption = False,
    sign: SignOption = None,
    approval: ApprovalOption = None,
    although_suspect: AlthoughOption = False,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Restore a server of PostgreSQL into a fresh one, recover it, look into it, and sign what was seen.

    The server listens on a socket that nobody else reaches, archives nothing, and is gone afterwards. A base
    backup is checked with pg_verifybackup and recovered with the archived log, dumps are restored into a new
    server. Needs the programs of the same major version. Ends with 4 if anything fails.
    """
    from donjon.app.postgres.drill import Wanted, drill_server_restore
    from donjon.recovery.postgres import parse_goal_time, parse_lsn

    out = output(json=json, quiet=quiet)
    check_goal(to_time, to_lsn, no_wal=no_wal)
    wanted = Wanted(
        point,
        parse_goal_time(to_time) if to_time else None,
        parse_lsn(to_lsn) if to_lsn else None,
        not no_wal,
        tuple(map(_check, check or ())),
        checks_indexes=not no_amcheck,
        run_as=run_as,
        parent=folder.absolute() if folder else None,
        timeout_s=parse_duration(timeout),
        sign=sign,
        out=evidence,
        in_vault=not no_evidence,
        permit=permit(approval, although=although_suspect),
    )
    space = workspace(vault, kit, passphrase_file)
    with stopping(_OUTLOOK) as stop, out.progress("Restoring") as progress:
        done = drill_server_restore(space, wanted, os.environ, progress, stop)
    out.warn_all(done.notes)
    out.result(_data(done), "\n".join(_lines(done)))
    if done.failure is not None:
        raise done.failure
    return 0 if done.has_passed else _FINDINGS


def _check(text: str) -> Check:
    from donjon.app.postgres.drill import Check

    database, separator, sql = text.partition(":")
    if not (separator and database.strip() and sql.strip()):
        msg = f"{text!r} is no check"
        raise UsageError(msg, hint="Write it like 'orders: SELECT count(*) > 0 FROM orders'.")
    return Check(database.strip(), sql.strip())


def _data(done: Drilled) -> dict[str, object]:
    recorded = done.recorded
    return {
        "subject": done.subject,
        "point": done.point.hex(),
        "passed": done.has_passed,
        "duration_s": done.duration_s if done.duration_s >= 0 else None,
        "segments": done.segments,
        "rows": [row_data(row) for row in done.rows],
        "values": done.values,
        "notes": done.notes,
        "evidence": {"id": recorded.signed.digest.hex(), "places": recorded.places} if recorded else None,
    }


def _lines(done: Drilled) -> list[str]:
    lines = [f"Restored {done.subject}", *table(done.rows), summary(done.rows)]
    if done.duration_s >= 0:
        lines.append(f"The server was open after {format_duration(done.duration_s)}")
    lines += [f"Query {number} gave {value}" for number, value in enumerate(done.values, 1)]
    if done.recorded is not None:
        lines.append(f"Evidence {done.recorded.signed.digest.hex()[:12]}")
        lines += [f"  {place}" for place in done.recorded.places]
    return lines
