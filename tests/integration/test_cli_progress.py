"""What a backup shows while it runs: bars on a terminal, nothing in between elsewhere."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.cli import Donjon, end

MIB = 1 << 20
COLUMNS = 140


class Screen:
    """A backup of a stream whose bytes come when the test wants; what it writes to its terminal."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int, stream: int) -> None:
        self.process = process
        self.stream = stream
        self._terminal = terminal
        self.seen = b""

    def feed(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.stream, data[:65_536]) :]

    def wait_for(self, pattern: bytes, timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while not re.search(pattern, self.seen):
            assert time.monotonic() < deadline, self.seen
            if select.select([self._terminal], [], [], 0.1)[0]:
                self.seen += self.read()

    def read(self) -> bytes:
        try:
            return os.read(self._terminal, 65_536)
        except OSError:  # the process has closed its end
            return b""


@contextmanager
def backup_on_a_terminal(donjon: Donjon, *options: str) -> Iterator[Screen]:
    ours, theirs = pty.openpty()
    reading, writing = os.pipe()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [donjon.program, "backup", "--stdin", "shop.sql", "--workload", "shop", *options],
        env=donjon.environment() | {"TERM": "xterm", "COLUMNS": str(COLUMNS)},
        stdin=reading,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    os.close(reading)
    screen = Screen(process, ours, writing)
    try:
        yield screen
        os.close(writing)
        while data := screen.read():
            screen.seen += data
        assert process.wait(30) == 0, screen.seen
    finally:
        end(process)
        os.close(ours)


def test_a_terminal_shows_how_far_the_work_is_and_how_long_it_will_take(donjon: Donjon) -> None:
    half = os.urandom(24 * MIB)
    with backup_on_a_terminal(donjon) as screen:
        screen.feed(half)
        screen.wait_for(rb"0 items  \d+\.\d MiB .*shop\.sql")  # how much will come is not known yet
        screen.feed(half)
    with backup_on_a_terminal(donjon) as screen:
        screen.feed(half)
        time.sleep(1)  # so that there is a rate
        screen.feed(half[: 12 * MIB])
        screen.wait_for(rb"0 of 1 items  \d+\.\d MiB of 48\.0 MiB  \d+\.\d MiB/s")
        screen.wait_for(rb"0:00:0\d")
        screen.feed(half[12 * MIB :])


def test_nothing_is_shown_when_quiet_is_asked_for(donjon: Donjon) -> None:
    with backup_on_a_terminal(donjon, "--quiet") as screen:
        screen.feed(os.urandom(24 * MIB))
    assert screen.seen == b""


@pytest.mark.parametrize("options", [(), ("--json",), ("--quiet",)])
def test_logs_of_a_backup_that_went_well_are_empty(donjon: Donjon, options: tuple[str, ...]) -> None:
    done = donjon.run("backup", "--stdin", "x", *options, input_bytes=os.urandom(MIB))
    assert done.stderr == b""
    assert bool(done.stdout) == (options != ("--quiet",))
