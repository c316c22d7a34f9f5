"""Whether a file system of a block device is mounted for writing, so that reading it gives no one moment."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_SYS = Path("/sys/dev/block")
_LOOPS = Path("/sys/block")


def writable_mounts(path: bytes, status: os.stat_result) -> list[str]:
    """Where something on a device, its partitions, what is built on them, or loops of an image is mounted.

    Only mounts for writing count. Empty where the system cannot tell (see proc(5), mountinfo).
    """
    if stat.S_ISBLK(status.st_mode):
        devices = _with_all_above(status.st_rdev)
    else:
        devices = {number for loop in _loops_of(path) for number in _with_all_above(loop)}
    if not devices:
        return []
    return sorted({where for where, numbers in _mounts() if devices & numbers})


def _with_all_above(number: int) -> set[int]:
    """A device, its partitions, and volumes that are made of any of them."""
    found = {number}
    waiting = [number]
    while waiting:
        device = waiting.pop()
        folder = _SYS / f"{os.major(device)}:{os.minor(device)}"
        inside = [*folder.glob("*/partition"), *(folder / "holders").glob("*/dev")]
        for file in inside:
            try:
                above = _number((file.with_name("dev")).read_text())
            except (OSError, ValueError):
                continue
            if above not in found:
                found.add(above)
                waiting.append(above)
    return found


def _loops_of(path: bytes) -> Iterator[int]:
    """Loop devices over an image file."""
    wanted = os.path.realpath(path)
    for file in _LOOPS.glob("loop*/loop/backing_file"):
        try:
            if os.fsencode(file.read_text().rstrip("\n")) == wanted:
                yield _number((file.parent.parent / "dev").read_text())
        except (OSError, ValueError):
            continue


def _mounts() -> Iterator[tuple[str, set[int]]]:
    """(where, numbers of devices) of all that is mounted for writing."""
    try:
        lines = _MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, source = before.split(), after.split()
        # The options of the mount and those of the file system: a read-only bind leaves it writable.
        if len(fields) < 6 or len(source) < 3 or "rw" not in source[2].split(","):
            continue
        numbers = {_number(fields[2])}
        if source[1].startswith("/"):  # btrfs has numbers of its own
            with contextlib.suppress(OSError):
                numbers.add(os.stat(source[1]).st_rdev)
        yield fields[4].encode().decode("unicode_escape"), numbers


def _number(text: str) -> int:
    major, _, minor = text.strip().partition(":")
    return os.makedev(int(major), int(minor))
