"""Real processes are killed at random moments; a real disk fills up."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from donjon.testing.folders import remove_tree
from donjon.testing.trees import compare_trees
from tests.integration.cli import Donjon, end
from tests.integration.engine import change

FILES = 400


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """About 90 MB, most of it incompressible, so that a backup takes some tenths of a second."""
    folder = tmp_path / "source"
    randomness = random.Random(1)
    for number in range(FILES):
        path = folder / f"d{number % 9}" / f"f{number:04d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(randomness.randbytes(randomness.randrange(450_000)))
    return folder


def _assert_restores(donjon: Donjon, source: Path) -> None:
    target = donjon.folder / "restored"
    donjon.run("restore", f"latest:{source}", target)
    try:
        assert compare_trees(os.fsencode(source), os.fsencode(target)) == []
    finally:
        remove_tree(target)


def test_a_backup_may_be_killed_at_any_moment(donjon: Donjon, source: Path) -> None:
    randomness = random.Random(7)
    killed = 0
    points = 0
    for _ in range(8):
        process = donjon.start("backup", source, "--workload", "files", "--read-all")
        try:
            time.sleep(randomness.uniform(0.2, 0.5))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                killed += 1
        finally:
            end(process)
        assert donjon.json("verify", "--data", "100")["ok"]
        listed = len(donjon.json("points")["points"])
        assert points <= listed <= points + 1
        points = listed
        change(source, points)
    assert killed >= 1
    done = donjon.json("backup", source, "--workload", "files")
    assert done["errors"] == []
    _assert_restores(donjon, source)
    assert donjon.json("verify", "--data", "100")["ok"]


def test_what_a_killed_backup_stored_is_not_stored_again(donjon: Donjon, source: Path) -> None:
    process = donjon.start("backup", source)
    try:
        deadline = time.monotonic() + 30
        while not list(donjon.vault.glob("packs/*/*")) and time.monotonic() < deadline:
            assert process.poll() is None, "the backup was too fast to be killed after its first pack"
            time.sleep(0.002)
    finally:
        end(process)
    left = sum(path.stat().st_size for path in donjon.vault.glob("packs/*/*"))
    assert left > 10_000_000
    done = donjon.json("backup", source)
    total = sum(path.stat().st_size for path in source.rglob("f*"))
    assert done["bytes_stored"] < total - left + 2_000_000
    _assert_restores(donjon, source)


def test_a_restore_may_be_killed_and_run_again(donjon: Donjon, source: Path) -> None:
    donjon.run("backup", source)
    target = donjon.folder / "restored"
    randomness = random.Random(3)
    for _ in range(4):
        process = donjon.start("restore", f"latest:{source}", target)
        try:
            time.sleep(randomness.uniform(0.3, 0.8))
        finally:
            end(process)
    donjon.run("restore", f"latest:{source}", target)
    assert compare_trees(os.fsencode(source), os.fsencode(target)) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "donjon-test", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def test_a_full_disk_ends_the_backup_and_a_larger_one_lets_it_go_on(
    host: Donjon, source: Path, small_disk: Path
) -> None:
    donjon = replace(host, folder=small_disk / "host", timeout_s=60)
    donjon.folder.mkdir()
    donjon.init()
    for _ in range(2):
        done = donjon.run("backup", source, code=1)
        assert b"no room" in done.stderr.lower() or b"full" in done.stderr.lower(), done.stderr
        assert donjon.json("points")["points"] == []
    assert donjon.json("verify", "--data", "100")["ok"]
    assert not list(donjon.vault.glob(".tmp/*"))
    subprocess.run(["mount", "-o", "remount,size=400m", small_disk], check=True)
    donjon.run("backup", source)
    _assert_restores(donjon, source)
