"""`donjon status`: whether the copies of each workload obey the rule 3-2-1-1-0."""

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
    VerboseOption,
    output,
    workspace,
)
from donjon.cli.evidence import SignOption
from donjon.cli.output import Colour, Output
from donjon.cli.plan_files import PlanOption, plan_path
from donjon.core.clock import iso, system_clock

if TYPE_CHECKING:
    from donjon.app.status.matrix import Status
    from donjon.plan.placement import Cell, Verdict

_FINDINGS = 4
_HEADS = {
    "copies": "COPIES",
    "media": "MEDIA",
    "offsite": "OFFSITE",
    "immutable": "IMMUTABLE",
    "verified": "UNVERIFIED",
    "rpo": "RPO",
    "rto": "RTO",
}
_MARKS = {"met": "ok", "not-met": "RED", "unknown": "RED?", "not-asked": ""}
_COLOURS = {"met": Colour.GREEN, "not-met": Colour.RED, "unknown": Colour.RED, "not-asked": None}

EPILOG = """\b
Examples:
  donjon status
  donjon status web db --verbose         with the facts about each copy
  donjon status --html report.html       a report to print
  donjon status --record                 signed, in the vaults of the plan

\b
JSON: {"plan", "digest", "time", "green", "workloads": [{"workload", "green", "cells": [{"rule",
"state", "value", "reason", "remedy"}], "copies": [{"kind", "name", "counts", "why_not", ...}], "shared":
[{"one", "other", "what"}], "restore"}], "warnings", "evidence": [{"id", "places"}]}; rule is copies,
media, offsite, immutable, verified, rpo or rto; state is met, not-met, unknown or not-asked."""


def status(
    workloads: Annotated[
        list[str] | None, typer.Argument(metavar="[WORKLOAD]...", help="Only these workloads of the plan.")
    ] = None,
    plan: PlanOption = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Save a report to print in this new file.")
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Sign the matrix, and put it into the vaults of the plan.")
    ] = False,
    sign: SignOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Tell for each workload of the plan whether its copies obey the rule 3-2-1-1-0, from what is there now.

    Three copies on two media, one of them offsite, one immutable, none unverified; the age of the newest
    point, and the time of the last restore. Every red cell comes with its reason and what to do. What cannot
    be looked at is red. Needs no key where the plan is run, as the catalog knows whose points are whose;
    elsewhere a key tells. Ends with 4 if anything is red.
    """
    from donjon.app.status.matrix import Wanted, take_status
    from donjon.app.status.report import check_file, save_report

    out = output(json=json, quiet=quiet, verbose=verbose)
    space = workspace(None, kit, passphrase_file)
    if html is not None:
        check_file(html)
    wanted = Wanted(plan_path(space.home, plan), tuple(workloads or ()), record=record, sign=sign)
    with out.progress("Looking") as progress:
        taken = take_status(space.settings, os.environ, wanted, system_clock, progress)
    out.warn_all(taken.warnings)
    if html is not None:
        save_report(taken, html)
    out.result(status_data(taken), "")
    if not quiet:
        _print(out, taken)
    return 0 if taken.is_green else _FINDINGS


# -- for people ------------------------------------------------------------------------------------


def _print(out: Output, taken: Status) -> None:
    out.line(f"Plan {taken.plan.name}, {iso(taken.now)}")
    _matrix(out, taken)
    _red(out, taken)
    for verdict in taken.verdicts if out.verbose else ():
        _copies(out, verdict)
    for recorded in taken.recorded:
        out.line(f"Evidence {recorded.signed.digest.hex()[:12]}")
        for place in recorded.places:
            out.line(f"  {place}")


def _red(out: Output, taken: Status) -> None:
    """Why cells are red, and what to do; what many workloads have in common is told once."""
    alike: dict[tuple[str, str], list[tuple[str, Cell]]] = {}
    for verdict in taken.verdicts:
        for cell in verdict.cells:
            if cell.is_red:
                alike.setdefault((cell.rule, cell.reason), []).append((verdict.facts.workload, cell))
    for (rule, reason), found in alike.items():
        names = ", ".join(name for name, _ in found)
        out.painted([(f"{names}: {_HEADS[rule].lower()}: ", Colour.RED), (reason, None)])
        out.painted([(f"  To do: {found[0][1].remedy}", None)])


def _matrix(out: Output, taken: Status) -> None:
    head = ("WORKLOAD", *_HEADS.values())
    rows = [(verdict.facts.workload, *map(_cell, verdict.cells)) for verdict in taken.verdicts]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    out.line("  ".join(text.ljust(width) for text, width in zip(head, widths, strict=True)).rstrip())
    for verdict, row in zip(taken.verdicts, rows, strict=True):
        colours = [None, *(_COLOURS[cell.state] for cell in verdict.cells)]
        cells = zip(row, widths, colours, strict=True)
        out.painted((text.ljust(width) + "  ", colour) for text, width, colour in cells)


def _cell(cell: Cell) -> str:
    return f"{cell.value} {_MARKS[cell.state]}".strip()


def _copies(out: Output, verdict: Verdict) -> None:
    from donjon.app.status.report import facts_of

    out.line(f"Copies of {verdict.facts.workload}:")
    for judged in verdict.copies:
        counts = judged.copy.title in verdict.counted
        out.painted([("  counts  " if counts else "  no      ", _COLOURS["met" if counts else "not-met"]),
                     (judged.copy.title, None)])  # fmt: skip
        for name, fact in facts_of(judged):
            out.painted([(f"            {name}: {fact}", None)])
    for shared in verdict.shared:
        out.painted([(f"  {shared.one} and {shared.other} share {', '.join(shared.what)}", None)])


# -- for programs ----------------------------------------------------------------------------------


def status_data(taken: Status) -> dict[str, object]:
    """The matrix in JSON."""
    from donjon.app.status.report import verdict_data

    return {
        "plan": taken.plan.name,
        "digest": taken.digest,
        "time": iso(taken.now),
        "green": taken.is_green,
        "workloads": [verdict_data(verdict) for verdict in taken.verdicts],
        "warnings": taken.warnings,
        "evidence": [{"id": one.signed.digest.hex(), "places": one.places} for one in taken.recorded],
    }
