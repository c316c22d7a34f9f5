"""Write ``docs/benchmarks.md`` from the raw measurements, and from nothing else.

It has two parts, for folders and for S3. A part of which nothing was measured in this work folder stays as
it is, as it tells what was measured in another one.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from bench import s3_report
from bench.budgets import RIVALS, faster_rival, judge, work
from bench.corpora import Corpus
from bench.results import DISK, PHASES, S3, VERSION, Results, Summary
from bench.tables import MISSING, TITLES, budgets, table, taken, tools, warnings
from bench.tools import NAMES

_INTRODUCTION = """\
# Benchmarks

*Written by `make bench`. Do not edit: change the harness in `bench/` and measure again.*

Donjon beside restic and Borg: one machine, one disk, one tool after the other, the same files. All
compress with zstd level 3, encrypt as they do by default (Borg: `repokey`) and sync to disk as they do
by default; each has a cache of its own. The page cache is warm for all: the corpus, or the repository,
is read once before every step, and the disk's queue is flushed. What was restored is removed when all
is measured, as ext4 makes files slowly for minutes after many were removed. Times are wall seconds; CPU
seconds are user and system time of all processes; peak memory is the largest resident size of one process;
stored size is the sum of the sizes of the repository's files. MB are 10^6 bytes.
"""
#: The causes were measured with py-spy and by timing the parts alone. Keep them in step with the table.
_REASONS = """\
## Where it falls short, and why

- **First backup**: zstd level 3 alone takes 8.4 CPU seconds for the small files, half of Donjon's CPU time;
  the rivals run the same compressor. On two cores that leaves no room for three times restic's speed. The
  rest is reading, cutting, hashing, encrypting and writing, all outside the interpreter.
- **Nothing changed**: one `lstat` and one comparison with the previous point for each file, by one thread in
  Python, at about 10 microseconds a file.
- **Restore, small files**: making a file is six system calls, whoever makes it; processes of their own do so
  now, where one thread at a time did and was no faster than restic. The file system's part differs most
  between runs, for the rivals as well: restic's 16 s on one day were 20 s and 35 s on others.
- **Verify, small files**: every entry is decoded and checked in Python beside the decompression.
- **Ten times the files** are tiny ones (1 KB on average), so work per file counts alone, and the interpreter
  lock lets Python use little more than one core: Donjon takes fewer CPU seconds than restic, but more time.
- **Memory at ten times the files** grows with the index, 48 bytes for each chunk. It is mapped from a file,
  so that the kernel takes it back when memory is short, but what was looked at counts as resident.
- **Stored size of big**: at most 0.2% is the padding of packs, which hides sizes
  ([ADR 0005](adr/0005-padding.md)).
"""
_REPEAT = """\
## How to repeat

```
make bench                                        # all tools, corpora big and small
make bench ARGS='--times 10'                      # the corpus of ten times the files as well
make bench ARGS='--only donjon --corpus small'    # one tool on one corpus; the rest of the table stays
make bench ARGS='--rounds 3'                      # medians of three rounds
make bench ARGS='--store s3'                      # on an S3 server, beside restic; the part at the end
```

It needs about 60 GB below `.bench/` (or `DONJON_BENCH_DIR`), a Debian system for restic's package, and
a machine that does nothing else meanwhile. Numbers depend on the machine and, for the corpora that are
made of its own files, on what is installed: compare ratios, not seconds.
"""


def write(path: Path, results: Results, corpora: Sequence[Corpus], work_folder: Path) -> None:
    """Write the document. Raises ``OSError``."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    folders, heading, s3 = old.partition(f"\n{s3_report.HEADING}")
    machine = _machine(work_folder)
    if results.of(DISK) or not folders:
        sections = [_INTRODUCTION, _budgets(results), _measurements(results, corpora)]
        sections += [_REASONS, _conditions(results, corpora, machine), _REPEAT]
        folders = "\n".join(sections)
    if results.of(S3):
        heading, s3 = "\n", s3_report.section(results, [_described(corpus) for corpus in corpora], machine)
    path.write_text(folders + heading + s3, encoding="utf-8")


def _budgets(results: Results) -> str:
    verdicts = [(verdict.asked, verdict.seen, verdict.met) for verdict in judge(results)]
    return "## Budgets\n\n" + budgets(verdicts)


def _cell(summary: Summary | None) -> str:
    return MISSING if summary is None else taken(summary)


def _ratio(results: Results, corpus: str, phase: str) -> str:
    own, rival = results.summary("donjon", corpus, phase), faster_rival(results, corpus, phase)
    if not own or not rival:
        return MISSING
    return f"{rival[1].wall_s / own.wall_s:.2f} times {TITLES[rival[0]]}'s speed"


def _measurements(results: Results, corpora: Sequence[Corpus]) -> str:
    header = ["Work", *(TITLES[name] for name in NAMES), "Ratio"]
    rows = []
    for corpus in (corpus.name for corpus in corpora):
        for phase in PHASES:
            cells = [_cell(results.summary(name, corpus, phase)) for name in NAMES]
            rows.append([work(corpus, phase), *cells, _ratio(results, corpus, phase)])
        rows.append([f"{corpus}: stored size", *_stored(results, corpus)])
    starts = [results.summary(name, "", VERSION) for name in NAMES]
    rows.append(["`--version`", *(f"{start.wall_s:.3f} s" if start else MISSING for start in starts), ""])
    return "## Measurements\n\nWall time, CPU time, peak memory.\n\n" + table(header, rows)


def _stored(results: Results, corpus: str) -> list[str]:
    found = {name: results.summary(name, corpus, "backup") for name in NAMES}
    cells = [f"{summary.stored_bytes / 1e6:.0f} MB" if summary else MISSING for summary in found.values()]
    own, rivals = found["donjon"], [found[name] for name in RIVALS]
    smaller = min((rival.stored_bytes for rival in rivals if rival), default=0.0)
    return [*cells, f"{own.stored_bytes / smaller:.3f} of the smaller" if own and smaller else MISSING]


def _conditions(results: Results, corpora: Sequence[Corpus], machine: str) -> str:
    lines = ["## Conditions\n"]
    lines += [_described(corpus) for corpus in corpora]
    lines += tools(results.of(DISK), NAMES)
    lines.append(f"- Machine: {machine}.")
    lines += warnings(results.of(DISK))
    return "\n".join(lines) + "\n"


def _described(corpus: Corpus) -> str:
    kind = {
        "big": "half random bytes, half a tar of the system's files",
        "small": "files of the system",
        "many": "text of made-up words, every file another",
    }[corpus.name]
    text = f"{corpus.files:,} files, {corpus.bytes / 2**30:.2f} GiB: {kind}"
    if corpus.copies > 1:
        text += (
            f" (the machine has too few: used {corpus.copies} times, every byte shifted by the number of the"
            " copy, so that copies compress alike but do not deduplicate)"
        )
    return f"- Corpus {corpus.name}: {text}."


def _machine(work_folder: Path) -> str:
    processor = platform.processor() or platform.machine()
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        system = platform.system()
    return (
        f"{os.cpu_count()} cores of {processor}, {memory:.0f} GiB of memory, {_file_system(work_folder)},"
        f" {system}, kernel {platform.release().split('-')[0]}, Python {platform.python_version()}"
    )


def _file_system(folder: Path) -> str:
    best, kind = "", "unknown file system"
    for line in _lines("/proc/mounts"):
        _, mount, found, *_ = line.split()
        if folder.is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, found
    return kind


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
