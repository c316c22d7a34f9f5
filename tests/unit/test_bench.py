"""The harness judges by what was measured, and tells when something was not."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import report, s3_report
from bench.budgets import judge
from bench.corpora import Corpus
from bench.measure import Command, CommandError, count, measure, remove
from bench.results import PHASES, S3, STORES, VERSION, Result, Results

BIG = Corpus("big", 2, 4 << 30, 1)


def result(tool: str, corpus: str, phase: str, wall_s: float, **other: float | str) -> Result:
    values: dict[str, float | str] = {
        "version": "1.0",
        "run": "2026-01-01T00:00:00+00:00",
        "load": 0.0,
        "cpu_s": wall_s,
        "peak_bytes": 100_000_000,
        "stored_bytes": 1000,
    }
    return Result(tool=tool, corpus=corpus, phase=phase, wall_s=wall_s, **{**values, **other})  # type: ignore[arg-type]


def full(tmp_path: Path, donjon_s: float) -> Results:
    results = Results(tmp_path / "results.json")
    for corpus in ("big", "small", "many"):
        for tool, wall_s in (("restic", 12.0), ("borg", 10.0), ("donjon", donjon_s)):
            results.add([result(tool, corpus, phase, wall_s) for phase in PHASES])
    results.add([result("donjon", "", VERSION, 0.1)])
    return results


def test_all_budgets_are_met_by_a_fast_enough_tool(tmp_path: Path) -> None:
    assert [verdict.asked for verdict in judge(full(tmp_path, 2.0)) if verdict.met is not True] == []


def test_speed_budgets_compare_with_the_faster_rival(tmp_path: Path) -> None:
    missed = [verdict for verdict in judge(full(tmp_path, 4.0)) if not verdict.met]
    assert [verdict.asked.split(",")[0] for verdict in missed] == ["small: first backup", "small: backup"]
    assert {verdict.seen for verdict in missed} == {"2.50 times (borg)"}


def test_nothing_measured_is_neither_met_nor_missed(tmp_path: Path) -> None:
    verdicts = judge(Results(tmp_path / "results.json"))
    assert {verdict.met for verdict in verdicts} == {None}
    assert len(verdicts) == 13


def test_memory_that_grows_with_the_files_is_seen(tmp_path: Path) -> None:
    results = full(tmp_path, 2.0)
    results.add([result("donjon", "many", phase, 2.0, peak_bytes=200_000_000) for phase in PHASES])
    assert ["ten times the files" in verdict.asked for verdict in judge(results) if not verdict.met] == [True]


def test_a_new_run_replaces_and_a_new_round_adds(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json")
    for wall_s in (1.0, 3.0, 8.0):
        results.add([result("borg", "big", "backup", wall_s)])
    seen = Results(tmp_path / "results.json").summary("borg", "big", "backup")
    assert seen is not None
    assert seen.wall_s == 3.0
    results.add([result("borg", "big", "backup", 7.0, run="2026-01-02T00:00:00+00:00")])
    assert [item.wall_s for item in Results(tmp_path / "results.json").all] == [7.0]


def test_the_report_tells_what_is_missing_and_what_was_not_side_by_side(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json")
    results.add([result("restic", "big", phase, 12.0) for phase in PHASES])
    results.add([result("borg", "big", phase, 10.0, run="2026-01-02T00:00:00+00:00") for phase in PHASES])
    report.write(tmp_path / "report.md", results, [BIG], tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "Donjon: not measured yet" in text
    assert "**not** measured in one run" in text
    assert "12.0 s, 12.0 cpu-s, 100 MB" in text


def in_bucket(results: Results, donjon_s: float, requests: int) -> None:
    for corpus in ("big", "small"):
        for tool, wall_s, asked in (("restic", 12.0, 90), ("donjon", donjon_s, requests)):
            results.add([on_s3(tool, corpus, phase, wall_s, asked) for phase in s3_report.PHASES])


def on_s3(tool: str, corpus: str, phase: str, wall_s: float, requests: int) -> Result:
    return replace(result(tool, corpus, phase, wall_s), store=S3, requests=requests, calls=requests + 1)


@pytest.mark.parametrize(
    ("donjon_s", "requests", "missed"), [(6.0, 30, 0), (6.1, 30, 4), (6.0, 31, 4), (7.0, 31, 8)]
)
def test_budgets_on_s3_compare_with_restic(
    tmp_path: Path, donjon_s: float, requests: int, missed: int
) -> None:
    results = Results(tmp_path / "results.json")
    in_bucket(results, donjon_s, requests)
    section = s3_report.section(Results(tmp_path / "results.json"), [], "a machine")
    assert section.count("**not met**") == missed
    assert section.count(" | met |") == 9 - missed
    assert f"{requests} requests" in section


def test_a_part_of_the_report_stays_when_only_the_other_one_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    report.write(path, full(tmp_path, 2.0), [BIG], tmp_path)
    folders = path.read_text()
    assert s3_report.HEADING not in folders
    elsewhere = Results(tmp_path / "elsewhere.json")
    in_bucket(elsewhere, 5.0, 10)
    report.write(path, elsewhere, [BIG], tmp_path)
    both = path.read_text()
    assert both.startswith(f"{folders}\n{s3_report.HEADING}\n")
    report.write(path, full(tmp_path / "anew", 2.0), [BIG], tmp_path)
    assert path.read_text() == both
    report.write(path, elsewhere, [BIG], tmp_path)
    assert path.read_text() == both


def test_measuring_in_a_bucket_replaces_nothing_measured_in_folders(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json")
    results.add([result("restic", "big", "backup", 5.0)])
    results.add([replace(on_s3("restic", "big", "backup", 9.0, 7), run="2026-02-02T00:00:00+00:00")])
    folder, bucket = (results.summary("restic", "big", "backup", store) for store in STORES)
    assert folder is not None
    assert bucket is not None
    assert (folder.wall_s, folder.requests, bucket.wall_s, bucket.requests) == (5.0, None, 9.0, 7)


def test_a_command_is_measured_with_what_it_used_itself(tmp_path: Path) -> None:
    script = """
import time
data = bytearray(60_000_000)
while time.process_time() < 0.2: pass
"""
    seen = measure(Command([sys.executable, "-c", script], {}, tmp_path), tmp_path / "log")
    assert 60e6 < seen.peak_bytes < 120e6
    assert seen.cpu_s >= 0.2
    small = measure(Command([sys.executable, "-I", "-S", "-c", ""], {}, tmp_path), tmp_path / "log")
    assert small.peak_bytes < 30e6


def test_a_failing_command_shows_its_output(tmp_path: Path) -> None:
    command = Command([sys.executable, "-c", "raise SystemExit('no such repository')"], {}, tmp_path)
    with pytest.raises(CommandError, match=r"exit code 1 from: (?s:.)*no such repository"):
        measure(command, tmp_path / "log")


def test_count_and_remove_see_the_whole_tree(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").write_bytes(b"12345")
    (folder / "link").symlink_to("/usr")
    assert count(folder) == (1, 5)
    remove(folder)
    assert not folder.exists()
    remove(folder)
