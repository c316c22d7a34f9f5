"""Run the benchmark: ``python -m bench``."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bench import buckets, corpora, far, keys, report, s3_report, tools, volumes
from bench.corpora import Corpus
from bench.measure import Command, CommandError, count, measure, remove, run, warm
from bench.observed import calls, observed
from bench.results import DISK, PHASES, S3, STORES, VERSION, Result, Results
from bench.rivals import RivalError
from bench.servers import running
from bench.tools import Donjon, Place, Tool

_ROOT = Path(__file__).resolve().parent.parent
_VERSION_ROUNDS = 5
#: What one failing tool may raise; the others are measured all the same.
_FAILURES = (CommandError, OSError, RuntimeError, subprocess.SubprocessError)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only", choices=tools.NAMES, nargs="+", default=list(tools.NAMES), help="tools to measure"
    )
    parser.add_argument(
        "--corpus", choices=corpora.NAMES, nargs="+", help="corpora to use (default: big small)"
    )
    parser.add_argument("--times", type=int, choices=(1, 10), default=1, help="10: ten times the files, too")
    parser.add_argument(
        "--store", choices=STORES, default=DISK, help="s3: repositories in a real S3 server on this machine"
    )
    parser.add_argument("--rounds", type=int, default=1, help="measure so often and take the medians")
    parser.add_argument(
        "--prepare", action="store_true", help="make the corpora and get the tools, measure nothing"
    )
    parser.add_argument(
        "--report", action="store_true", help="write docs/benchmarks.md anew, measure nothing"
    )
    parser.add_argument(
        "--keys", action="store_true", help="measure what key services cost, and nothing else"
    )
    parser.add_argument("--volumes", action="store_true", help="measure volumes, and nothing else")
    parser.add_argument(
        "--buckets", action="store_true", help="measure a bucket of small objects beside rclone, alone"
    )
    parser.add_argument(
        "--far", action="store_true", help="measure an S3 server that is far away, beside restic, alone"
    )
    return parser.parse_args()


def make_corpus(work: Path, name: str) -> Corpus:
    """Make a corpus in a process of its own, so that this one stays small."""
    print(f"corpus {name}", flush=True)
    subprocess.run([sys.executable, "-m", "bench.corpora", str(work), name], cwd=_ROOT, check=True)
    return corpora.make(work, name)


class Bench:
    """One run of the harness over tools and corpora."""

    def __init__(self, work: Path, results: Results, store: str) -> None:
        self._work = work
        self._results = results
        self.store = store
        self._run = datetime.now(UTC).isoformat(timespec="seconds")
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """Remove what was restored, now that all is measured.

        For minutes after files are removed, ext4 makes new ones several times slower, as it avoids inodes
        freed lately (``recently_deleted`` in fs/ext4/ialloc.c): the next tool would pay for the one before.
        """
        remove(self._work / "restored")

    def version(self, tool: Tool) -> None:
        """Measure what starting the program costs."""
        place = self._place(tool, "none")
        version = tool.version(place)
        for number in range(_VERSION_ROUNDS + 1):
            load = os.getloadavg()[0]
            taken = measure(tool.show_version(place), self._work / "logs" / f"{tool.name}-version.log")
            if number:  # the first start reads the program from disk
                result = Result(
                    tool.name,
                    version,
                    "",
                    VERSION,
                    self._run,
                    load,
                    taken.wall_s,
                    taken.cpu_s,
                    taken.peak_bytes,
                    0,
                )
                self._results.add([result])
        remove(place.folder)

    def corpus(self, tool: Tool, corpus: Corpus) -> None:
        """Measure all steps of one tool on one corpus, in one round."""
        place = self._place(tool, corpus.name)
        try:
            # Kept only when all steps went well: half a round would mix with an older one.
            if self.store == S3:
                with running(place.repository) as server:
                    self._results.add(self._in_bucket(tool, corpus, replace(place, server=server)))
            else:
                run(tool.prepare(place))
                self._results.add(list(self._steps(tool, corpus, place, PHASES)))
        finally:
            remove(place.folder)

    def _in_bucket(self, tool: Tool, corpus: Corpus, place: Place) -> list[Result]:
        run(tool.prepare(place))
        results = list(self._steps(tool, corpus, place, s3_report.PHASES))
        if not isinstance(tool, Donjon):
            return results
        # Once more, not timed, into another bucket: Donjon itself counts.
        again = replace(self._place(tool, corpus.name, "observed"), server=place.server, bucket="observed")
        run(tool.prepare(again))
        report = again.folder / "calls.json"
        counted = []
        for result in results:
            run(observed(_command(tool, again, result.phase), report))
            counted.append(replace(result, calls=calls(report)))
        return counted

    def _steps(self, tool: Tool, corpus: Corpus, place: Place, phases: Sequence[str]) -> Iterator[Result]:
        version = tool.version(place)
        for phase in phases:
            warm(place.corpus if phase in ("backup", "unchanged") else place.repository)
            command = _command(tool, place, phase)
            before = place.requests
            load = os.getloadavg()[0]
            taken = measure(command, self._work / "logs" / f"{tool.name}-{corpus.name}-{phase}.log")
            after, stored = place.requests, place.stored_bytes
            requests = None if after is None or before is None else after - before
            if phase == "restore":
                self._check(tool, corpus, place)
            print(
                f"{tool.name:7} {corpus.name:6} {phase:10} {taken.wall_s:8.2f} s {taken.cpu_s:8.2f} cpu-s"
                f" {taken.peak_bytes / 1e6:6.0f} MB peak {stored / 1e6:7.0f} MB stored   load {load:.1f}"
                + (f"   {requests} requests" if requests is not None else ""),
                flush=True,
            )
            yield Result(
                tool.name,
                version,
                corpus.name,
                phase,
                self._run,
                load,
                taken.wall_s,
                taken.cpu_s,
                taken.peak_bytes,
                stored,
                self.store,
                requests,
            )

    @staticmethod
    def _check(tool: Tool, corpus: Corpus, place: Place) -> None:
        """A restore that left something out must not count as a fast one."""
        files, total = count(place.restored)
        if (files, total) != (corpus.files, corpus.bytes):
            raise CommandError(
                f"{tool.name} restored {files} files with {total} bytes of {corpus.files} with {corpus.bytes}"
            )

    def _place(self, tool: Tool, corpus: str, inside: str = "") -> Place:
        number = next(self._numbers)
        place = Place(
            self._work / "runs" / tool.name / inside,
            self._work / "corpora" / corpus,
            self._work / "restored" / str(number),
        )
        remove(place.folder)
        for folder in (place.home, place.restored, self._work / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        return place


def _command(tool: Tool, place: Place, phase: str) -> Command:
    methods = {
        "backup": tool.backup,
        "unchanged": tool.backup,
        "restore": tool.restore,
        "verify": tool.verify,
    }
    return methods[phase](place)


def ready_tools(names: list[str], folder: Path) -> list[Tool]:
    """The tools that can be had; the others are named and left out."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name in names:
        try:
            found.append(tools.find(name, folder))
        except RivalError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return found


def main() -> int:
    """Make, get, measure, write. The exit code is 1 when a step of a tool failed."""
    options = arguments()
    if options.keys:
        return keys.main()
    if options.volumes:
        return volumes.main(options.rounds)
    work = Path(os.environ.get("DONJON_BENCH_DIR", _ROOT / ".bench")).resolve()
    if options.buckets:
        return buckets.main(work)
    if options.far:
        found = ready_tools(list(tools.S3_NAMES), work / "tools")
        return far.main(work, found, make_corpus(work / "corpora", "big"))
    names = list(options.corpus or ("big", "small"))
    if options.times > 1 and "many" not in names:
        names.append("many")
    results = Results(work / "results.json")
    failed = False
    if not options.report:
        chosen = [make_corpus(work / "corpora", name) for name in names]
        usable = tools.S3_NAMES if options.store == S3 else tools.NAMES
        found = ready_tools([name for name in options.only if name in usable], work / "tools")
        if not options.prepare:
            bench = Bench(work, results, options.store)
            try:
                failed = not measure_all(bench, found, chosen, options.rounds)
            finally:
                bench.close()
    if not options.prepare:
        target = _ROOT / "docs" / "benchmarks.md"
        report.write(target, results, known_corpora(work / "corpora"), work)
        print(f"wrote {target.relative_to(_ROOT)}")
    return 1 if failed else 0


def measure_all(bench: Bench, found: list[Tool], chosen: list[Corpus], rounds: int) -> bool:
    """Measure every tool on every corpus in turn; a failure is printed and the rest goes on."""
    well = True
    for tool in found if bench.store == DISK else ():
        try:
            bench.version(tool)
        except _FAILURES as error:
            well = False
            print(f"{tool.name}: {error}", file=sys.stderr)
    for _ in range(rounds):
        for corpus in chosen:
            for tool in found:
                try:
                    bench.corpus(tool, corpus)
                except _FAILURES as error:
                    well = False
                    print(f"{tool.name} on {corpus.name}: {error}", file=sys.stderr)
    return well


def known_corpora(folder: Path) -> list[Corpus]:
    """The corpora that were made, in their usual order."""
    found = [folder / f"{name}.json" for name in corpora.NAMES]
    return [Corpus(**json.loads(path.read_text())) for path in found if path.exists()]


if __name__ == "__main__":
    sys.exit(main())
