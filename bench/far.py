"""Beside restic, with an S3 server that is far away. Writes docs/benchmarks-far.md."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bench.corpora import Corpus
from bench.line import Line, far_away
from bench.measure import Command, CommandError, Measurement, count, measure, remove, run, warm
from bench.servers import Server
from bench.tools import Place, Tool

#: As to a region of the same continent; the connections of S3 carry 85 to 90 MB/s at best.
_LINE = Line(delay_s=0.015, bytes_per_s=40e6)
_STEPS = ("backup", "restore", "verify")
_NAMES = {"backup": "first backup", "restore": "restore", "verify": "verify all data"}


class _FarServer(Server):
    """A server that is reached over a line."""

    port = 0

    @property
    def endpoint(self) -> str:
        """The near end of the line."""
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[_FarServer]:
        """Start it, and the line to it, for as long as the body runs."""
        try:
            self.start()
            with far_away(int(super().endpoint.rpartition(":")[2]), _LINE) as port:
                self.port = port
                yield self
        finally:
            self.stop()


@dataclass(frozen=True)
class _Row:
    tool: str
    step: str
    taken: Measurement
    requests: int
    load: float


def main(work: Path, tools: list[Tool], corpus: Corpus) -> int:
    """Measure all steps of the tools, and write them down; 1 if Donjon was slower in any."""
    rows = [row for tool in tools for row in _steps(work, tool, corpus)]
    text, good = _report(rows, {row.step: row.taken.wall_s for row in rows if row.tool == "donjon"})
    target = Path(__file__).resolve().parent.parent / "docs" / "benchmarks-far.md"
    target.write_text(text)
    print(f"wrote docs/{target.name}")
    return 0 if good else 1


def _steps(work: Path, tool: Tool, corpus: Corpus) -> Iterator[_Row]:
    folder = work / "far"
    remove(folder)
    place = Place(folder / tool.name, work / "corpora" / corpus.name, folder / "restored")
    for made in (place.home, place.restored, work / "logs"):
        made.mkdir(parents=True, exist_ok=True)
    place.repository.mkdir()
    try:
        with _FarServer(place.repository).running() as server:
            place = replace(place, server=server)
            run(tool.prepare(place))
            for step in _STEPS:
                if step == "backup":
                    warm(place.corpus)
                load, before = os.getloadavg()[0], server.requests()
                command: Command = getattr(tool, step)(place)
                taken = measure(command, work / "logs" / f"{tool.name}-far-{step}.log")
                row = _Row(tool.name, step, taken, server.requests() - before, load)
                if step == "restore" and count(place.restored) != (corpus.files, corpus.bytes):
                    msg = f"{tool.name} restored something else"
                    raise CommandError(msg)
                print(
                    f"{row.tool:7} {step:8} {taken.wall_s:7.1f} s {taken.cpu_s:7.1f} cpu-s "
                    f"{taken.peak_bytes / 1e6:5.0f} MB {row.requests:5} requests   load {load:.1f}",
                    flush=True,
                )
                yield row
    finally:
        remove(folder)


def _report(rows: list[_Row], own: dict[str, float]) -> tuple[str, bool]:
    lines = [
        "# From afar",
        "",
        f"From `make bench ARGS=--far` on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors. The",
        "corpus *big* of [benchmarks.md](benchmarks.md), 4 GiB in two files, and an S3 server (SeaweedFS) on",
        f"the same machine behind a line on which every byte takes {_LINE.delay_s * 1000:.0f} ms, and each",
        f"connection carries {_LINE.bytes_per_s / 1e6:.0f} MB/s in each direction. The line is a program,",
        "which takes processor time of its own, from both tools alike.",
        "",
        "| | tool | seconds | processor s | peak memory | requests |",
        "|---|---|---|---|---|---|",
    ]
    speeds = []
    for step in _STEPS:
        for row in rows:
            if row.step == step:
                taken = row.taken
                lines.append(
                    f"| {_NAMES[step]} | {row.tool} | {taken.wall_s:.1f} | {taken.cpu_s:.1f} | "
                    f"{taken.peak_bytes / 1e6:.0f} MB | {row.requests} |"
                )
                if row.tool != "donjon" and step in own:
                    speeds.append((step, row.tool, taken.wall_s / own[step]))
    lines.append("")
    lines += [f"- {_NAMES[step]}: {speed:.2f} times the speed of {tool}." for step, tool, speed in speeds]
    return "\n".join([*lines, ""]), all(speed >= 1 for *_, speed in speeds)
