"""The raw measurements, kept as JSON beside the corpora; never edited by hand, never committed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

#: What is measured for each corpus, in this order.
PHASES = ("backup", "unchanged", "restore", "verify")
#: Where repositories are: in a folder, or in a bucket of a server on this machine.
DISK, S3 = STORES = ("disk", "s3")
#: Measured once for each tool, without a corpus.
VERSION = "version"


@dataclass(frozen=True)
class Result:
    """One measured step of one tool. ``stored_bytes`` is the repository's size after the step.

    ``requests`` is what an S3 server counted, ``calls`` what Donjon itself counted in another run of the
    step.
    """

    tool: str
    version: str
    corpus: str
    phase: str
    #: When the run of the harness started (ISO 8601, UTC): tells what was measured side by side.
    run: str
    #: Processes that wanted a core just before the step, from the system's one-minute average.
    load: float
    wall_s: float
    cpu_s: float
    peak_bytes: int
    stored_bytes: int
    store: str = DISK
    requests: int | None = None
    calls: int | None = None


@dataclass(frozen=True)
class Summary:
    """The medians over the rounds of one step."""

    wall_s: float
    cpu_s: float
    peak_bytes: float
    stored_bytes: float
    requests: float | None = None
    calls: float | None = None


class Results:
    """All measurements of a work folder.

    A new run of a tool on a corpus in a store replaces that tool's old one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        raw = json.loads(path.read_text()) if path.exists() else []
        self.all: list[Result] = [Result(**item) for item in raw]

    def add(self, results: Iterable[Result]) -> None:
        """Keep one round of one tool on one corpus, together with other rounds of the same run."""
        new = list(results)
        replaced = {(result.tool, result.corpus, result.store): result.run for result in new}
        kept = [
            result
            for result in self.all
            if replaced.get((result.tool, result.corpus, result.store), result.run) == result.run
        ]
        self.all = kept + new
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps([asdict(result) for result in self.all], indent=1))
        temporary.replace(self._path)

    def of(self, store: str) -> list[Result]:
        """What was measured in one kind of store."""
        return [result for result in self.all if result.store == store]

    def summary(self, tool: str, corpus: str, phase: str, store: str = DISK) -> Summary | None:
        """The medians of one step, or None where it was not measured."""
        found = [
            result
            for result in self.of(store)
            if (result.tool, result.corpus, result.phase) == (tool, corpus, phase)
        ]
        if not found:
            return None
        return Summary(
            median(result.wall_s for result in found),
            median(result.cpu_s for result in found),
            median(result.peak_bytes for result in found),
            median(result.stored_bytes for result in found),
            _median([result.requests for result in found]),
            _median([result.calls for result in found]),
        )


def _median(counts: Iterable[int | None]) -> float | None:
    known = [count for count in counts if count is not None]
    return median(known) if known else None
