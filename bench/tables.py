"""Pieces of the document that both of its parts are made of."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bench.results import Result, Summary

MISSING = "-"
TITLES = {"restic": "restic", "borg": "Borg", "donjon": "Donjon"}
_MET = {True: "met", False: "**not met**", None: MISSING}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows]]
    return "\n".join(lines) + "\n"


def budgets(verdicts: Sequence[tuple[str, str, bool | None]]) -> str:
    """A table of what was asked, what was seen, and whether that meets it."""
    return table(["Budget", "Seen", ""], [[asked, seen, _MET[met]] for asked, seen, met in verdicts])


def taken(summary: Summary) -> str:
    """Wall time, CPU time and peak memory of a step."""
    return f"{summary.wall_s:.1f} s, {summary.cpu_s:.1f} cpu-s, {summary.peak_bytes / 1e6:.0f} MB"


def tools(results: Sequence[Result], names: Sequence[str]) -> list[str]:
    """Which version of each tool was measured when."""
    lines = []
    for name in names:
        own = [result for result in results if result.tool == name]
        versions = sorted({result.version for result in own})
        dates = sorted({result.run[:10] for result in own})
        if own:
            lines.append(f"- {TITLES[name]} {', '.join(versions)}, measured {', '.join(dates)}.")
        else:
            lines.append(f"- {TITLES[name]}: not measured yet.")
    return lines


def warnings(results: Sequence[Result]) -> list[str]:
    """What makes these measurements less than comparable."""
    lines = []
    for corpus in sorted({result.corpus for result in results if result.corpus}):
        if len({result.run for result in results if result.corpus == corpus}) > 1:
            lines.append(
                f"- Corpus {corpus}: the tools were **not** measured in one run, so compare with care."
            )
    busiest = max((result.load for result in results), default=0.0)
    if busiest > (os.cpu_count() or 1):
        lines.append(
            f"- The machine was **not** idle: up to {busiest:.1f} processes wanted a core when a step"
            " started. The tools themselves count as well."
        )
    return lines
