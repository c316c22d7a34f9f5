"""`donjon stats`, and dry runs of `donjon backup`, through the real command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.cli import Donjon
from tests.integration.engine import change, fill


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 80, 1, size_bytes=20_000)
    return folder


def test_an_empty_vault_has_statistics_too(donjon: Donjon) -> None:
    found = donjon.json("stats")
    assert (found["points"], found["logical_bytes"], found["workloads"]) == (0, 0, [])
    assert found["objects"] == sum(kind["objects"] for kind in found["kinds"].values()) > 0


def test_the_numbers_are_those_of_the_folder_and_of_the_points(donjon: Donjon, source: Path) -> None:
    total = 0
    for number, workload in enumerate(("a", "b", "a")):
        if number == 2:
            change(source, 2)
        done = donjon.json("backup", source, "--workload", workload)
        total += done["bytes"]
        assert done["bytes"] == sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    found = donjon.json("stats")
    files = [path for path in donjon.vault.rglob("*") if path.is_file()]
    assert found["objects"] == len(files)
    assert found["bytes"] == sum(path.stat().st_size for path in files)
    assert found["logical_bytes"] == total
    packs = [path for path in files if path.parent.parent.name == "packs"]
    assert found["pack_bytes"] == sum(path.stat().st_size for path in packs)
    assert found["dedup_ratio"] == pytest.approx(total / found["unique_bytes"], abs=0.01)
    assert 2 < found["dedup_ratio"] < 3
    assert {row["workload"]: row["points"] for row in found["workloads"]} == {"a": 2, "b": 1}
    growth = found["growth"]
    assert [row["workload"] for row in growth] == ["a", "b", "a"]
    assert growth[1]["stored_bytes"] < growth[0]["stored_bytes"] / 10
    assert growth[-1]["total_stored_bytes"] == sum(row["stored_bytes"] for row in growth)
    text = donjon.text("stats", "-v")
    assert "deduplicated" in text
    assert text.count("\n") > 10


def test_without_a_key_only_what_is_open_is_told(donjon: Donjon, source: Path) -> None:
    donjon.run("backup", source, "--workload", "secret-name")
    found = donjon.without_kit().json("stats")
    assert found["points"] == 1
    assert "workloads" not in found
    text = donjon.without_kit().text("stats")
    assert "secret-name" not in text
    assert "--kit" in text


def test_a_dry_run_of_a_backup_tells_what_would_be_read_and_writes_nothing(
    donjon: Donjon, source: Path
) -> None:
    first = donjon.json("backup", source, "--workload", "w", "--dry-run")
    assert (first["files_new"], first["files_unmodified"]) == (80, 0)
    assert donjon.json("points")["points"] == []
    donjon.run("backup", source, "--workload", "w")
    before = sorted((str(path), path.stat().st_mtime_ns) for path in donjon.folder.rglob("*"))
    (source / "new").write_bytes(b"123")
    (source / "d1" / "f0001").write_bytes(b"12345")
    planned = donjon.json("backup", source, "--workload", "w", "--dry-run")
    assert (planned["files_new"], planned["files_changed"], planned["bytes_to_read"]) == (1, 1, 8)
    text = donjon.text("backup", source, "--workload", "w", "--dry-run", "-v")
    assert f"new      {source}/new\n" in text
    assert f"changed  {source}/d1/f0001\n" in text
    assert before == sorted((str(path), path.stat().st_mtime_ns) for path in donjon.folder.rglob("*"))
    real = donjon.json("backup", source, "--workload", "w")
    assert (real["files_new"], real["files_changed"], real["bytes_read"]) == (1, 1, 8)
    donjon.run("backup", "--stdin", "x", "--dry-run", code=2)
