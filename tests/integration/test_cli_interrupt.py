"""Ctrl-C in a real process: once ends cleanly, and the next backup goes on from there."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from donjon.testing.trees import compare_trees
from tests.integration.cli import Donjon, end

MIB = 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """About 300 MB that do not compress."""
    folder = tmp_path / "source"
    folder.mkdir()
    randomness = random.Random(5)
    for number in range(600):
        (folder / f"f{number:03d}").write_bytes(randomness.randbytes(randomness.randrange(MIB)))
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_interrupt_keeps_what_is_stored(donjon: Donjon, source: Path, number: signal.Signals) -> None:
    process = donjon.start("backup", source)
    try:
        deadline = time.monotonic() + 60
        while not list(donjon.vault.glob("packs/*/*")) and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(number)
        process.wait(30)
    finally:
        output, errors = end(process)
    assert process.returncode == 130, (output, errors)
    assert b"the next backup goes on from there" in errors
    assert b"Traceback" not in errors
    assert donjon.json("points")["points"] == []
    assert donjon.json("verify", "--data", "100")["ok"]
    left = sum(path.stat().st_size for path in donjon.vault.glob("packs/*/*"))
    total = sum(path.stat().st_size for path in source.iterdir())
    assert left > 40 * MIB
    done = donjon.json("backup", source)
    assert done["bytes_stored"] < total - left + 3 * MIB
    target = donjon.folder / "out"
    donjon.run("restore", f"latest:{source}", target)
    assert compare_trees(os.fsencode(source), os.fsencode(target)) == []


def test_two_interrupts_end_at_once(donjon: Donjon, tmp_path: Path) -> None:
    fifo = tmp_path / "slow"
    os.mkfifo(fifo)
    stream = os.open(fifo, os.O_RDWR)  # never gives a byte, so that no check for an interrupt is reached
    process = donjon.start("backup", "--stdin", "slow", stream=stream)
    try:
        time.sleep(1)
        assert process.poll() is None
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        process.wait(20)
    finally:
        output, errors = end(process)
        os.close(stream)
    assert process.returncode == 130, (output, errors)
    assert b"Traceback" not in errors
    assert donjon.json("points")["points"] == []


def _is_under_way(target: Path) -> bool:
    """Whether a large file is being written there, under the name that it has until it is whole."""
    for path in target.glob(".donjon-restore-*"):
        with suppress(FileNotFoundError):  # a small one, which is whole by now
            if path.stat().st_size > 2 * MIB:
                return True
    return False


def test_an_interrupted_restore_leaves_nothing_half_done_and_goes_on(donjon: Donjon, source: Path) -> None:
    (source / "large").write_bytes(random.Random(6).randbytes(150 * MIB))
    donjon.run("backup", source)
    target = donjon.folder / "out"
    process = donjon.start("restore", f"latest:{source}", target)
    try:
        deadline = time.monotonic() + 60
        while not _is_under_way(target) and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        process.wait(30)
    finally:
        output, errors = end(process)
    assert process.returncode == 130, (output, errors)
    assert b"the same restore goes on from there" in errors
    assert b"Traceback" not in errors
    there = {path.name for path in target.iterdir()}
    assert there == {path.name for path in source.iterdir()} - {"large"}
    done = donjon.json("restore", f"latest:{source}", target)
    assert (done["files"], done["kept"]) == (1, 600)
    assert compare_trees(os.fsencode(source), os.fsencode(target)) == []
