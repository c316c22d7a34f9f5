"""The part of the document about S3: Donjon beside restic, which both write to one server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.budgets import work
from bench.results import S3, Results, Summary
from bench.tables import MISSING, TITLES, budgets, table, taken, tools, warnings
from bench.tools import S3_NAMES

#: What is measured. Verifying reads as restoring does.
PHASES = ("backup", "unchanged", "restore")
HEADING = "## On an S3 server"
_CORPORA = ("big", "small")
_FASTER = 2.0
_REQUEST_SHARE = 1 / 3
_PEAK_LIMIT_BYTES = 300e6
_INTRODUCTION = """
Donjon and restic with a bucket of SeaweedFS on the loopback interface of the same machine, a fresh server
for each tool and corpus; Borg has no S3. Both with their defaults: restic packs of 16 MiB and five
connections, Donjon packs of 56 MiB at most, every object locked for 30 days. The server works on the same
cores, so its work counts in the wall time of both. Requests are what the server counted (its metrics,
refusals included), alike for both. *Own calls* are what Donjon counted around its store, in a run that was
not timed; a listing is one call there, and a look at the clock none.
"""
#: Keep in step with the table. The server's time was taken from /proc during a run of each tool.
_REASONS = """\
### Where it falls short, and why

- **Requests**: a pack is one request each way. Donjon's have 45 to 56 MiB, as two larger buffers would take a
  backup over its 250 MB; restic's have 17 MB. So the packs alone come to about a third of restic's requests.
  Some 10 to 15 more open the vault: who may list also asks what lies over each object that is read.
- **Restores**: Donjon takes about one core for the big files (12.7 CPU seconds in 12.6), and both for the
  small ones, where processes of their own make the files; the server takes the rest. Packs that are fetched
  whole go through a file on the disk once more, which restic's do not.
- **Speed**: the server itself needs 34 CPU seconds to take the big corpus from Donjon and 41 to take it from
  restic, for checksums and writing, on the same two cores. That part no client can make shorter.
"""
_REPEAT = """
```
make bench ARGS='--store s3'                      # restic and Donjon, corpora big and small
make bench ARGS='--store s3 --rounds 3'           # medians of three rounds
```
"""


def section(results: Results, corpora: Sequence[str], machine: str) -> str:
    """The whole part; ``corpora`` and ``machine`` are described by those who know them."""
    own = results.of(S3)
    conditions = [*corpora, *tools(own, S3_NAMES), f"- Machine: {machine}.", *warnings(own)]
    parts = [_INTRODUCTION, budgets(list(_verdicts(results))), _measurements(results)]
    return "\n".join([HEADING, *parts, _REASONS, "\n".join(conditions), _REPEAT])


def _verdicts(results: Results) -> Iterator[tuple[str, str, bool | None]]:
    for corpus in _CORPORA:
        for phase in ("backup", "restore"):
            own, rival = _both(results, corpus, phase)
            asked = f"{work(corpus, phase)}, {_FASTER:g} times faster than restic"
            ratio = rival.wall_s / own.wall_s if own and rival else None
            yield asked, _seen(ratio, "times"), None if ratio is None else ratio >= _FASTER
    for corpus in _CORPORA:
        for phase in ("backup", "restore"):
            own, rival = _both(results, corpus, phase)
            asked = f"{work(corpus, phase)}, at most a third of restic's requests"
            share = _share(own, rival)
            yield asked, _seen(share, "of them"), None if share is None else share <= _REQUEST_SHARE
    found = [results.summary("donjon", corpus, phase, S3) for corpus in _CORPORA for phase in PHASES]
    peak = max((summary.peak_bytes for summary in found if summary), default=None)
    asked = f"peak memory of every step at most {_PEAK_LIMIT_BYTES / 1e6:.0f} MB"
    if peak is None or None in found:
        yield asked, "not measured", None
    else:
        yield asked, f"{peak / 1e6:.0f} MB", peak <= _PEAK_LIMIT_BYTES


def _measurements(results: Results) -> str:
    rows = []
    for corpus in _CORPORA:
        for phase in PHASES:
            own, rival = _both(results, corpus, phase)
            speed = MISSING
            if own and rival:
                ratio = rival.wall_s / own.wall_s
                speed = f"{ratio:.2f} times the speed, {_seen(_share(own, rival), 'of the requests')}"
            calls = f"{own.calls:.0f}" if own and own.calls is not None else MISSING
            rows.append([work(corpus, phase), _cell(rival), _cell(own), speed, calls])
    header = ["Work", TITLES["restic"], TITLES["donjon"], "Donjon to restic", "Own calls"]
    return "Wall time, CPU time, peak memory, requests.\n\n" + table(header, rows)


def _both(results: Results, corpus: str, phase: str) -> tuple[Summary | None, Summary | None]:
    return results.summary("donjon", corpus, phase, S3), results.summary("restic", corpus, phase, S3)


def _share(own: Summary | None, rival: Summary | None) -> float | None:
    return own.requests / rival.requests if own and rival and own.requests and rival.requests else None


def _seen(number: float | None, unit: str) -> str:
    return "not measured" if number is None else f"{number:.2f} {unit}"


def _cell(summary: Summary | None) -> str:
    if summary is None or summary.requests is None:
        return MISSING
    return f"{taken(summary)}, {summary.requests:.0f} requests"
