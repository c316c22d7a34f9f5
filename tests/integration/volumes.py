"""Volumes for the tests: what is in them, a vault around them, loop devices that always go."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

from donjon.backup.job import Job
from donjon.backup.run import Outcome, run_backup
from donjon.core.events import Silent, StopCheck, never_stop
from donjon.format.entries import Entry
from donjon.recovery.view import TreeView
from donjon.recovery.volume import RestoredVolume, find_volume, restore_volume
from donjon.repository.points import OpenPoint
from donjon.repository.vault import open_vault
from donjon.repository.writing import WriteSession
from donjon.sources.base import Source
from donjon.sources.content import find_extents
from donjon.targets.volume import VolumeTarget
from tests.integration.engine import Place

MIB = 1 << 20
GIB = 1 << 30


def sparse(path: Path, size: int, pieces: dict[int, bytes]) -> None:
    """An image file with data at these offsets alone."""
    with path.open("wb") as file:
        for offset, data in pieces.items():
            file.seek(offset)
            file.write(data)
        file.truncate(size)


def patch(path: Path, offset: int, data: bytes) -> None:
    """Overwrite a piece of a file or device."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, data, offset)
        os.fsync(fd)
    finally:
        os.close(fd)


def noise(seed: int, size: int) -> bytes:
    """Incompressible data, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def back_up(
    place: Place,
    source: Source,
    *,
    read_all: bool = False,
    workload: str = "disk",
    stop: StopCheck = never_stop,
    compact_percent: float = 0,
) -> Outcome:
    """One backup of a source by the first host of a vault."""
    host = place.host
    vault = open_vault(place.store)
    vault.use_secret(host.credential.secret)
    session = WriteSession(
        vault, host.credential.signing_key, host.credential.writer_id, host.cache, host.clock
    )
    job = Job(source, workload, "host", (b"/disk",), read_all=read_all, compact_percent=compact_percent)
    try:
        return run_backup(job, session, host.cache, host.clock, Silent(), stop)
    finally:
        session.close()


def view_of(place: Place, point: OpenPoint | None = None) -> TreeView:
    """A point, by default the newest, to look into."""
    return TreeView(point or place.points()[-1], place.reader(place.open()))


def entry_of(place: Place, path: bytes = b"") -> Entry:
    """The entry of a volume in the newest point."""
    return find_volume(view_of(place), path)[1]


def bring_back(
    place: Place, target: VolumeTarget, path: bytes = b"", *, verify: bool = False
) -> RestoredVolume:
    """Restore a volume of the newest point."""
    view = view_of(place)
    try:
        return restore_volume(view, find_volume(view, path)[1], target, Silent(), verify=verify)
    finally:
        target.close()


def assert_same(one: Path, other: Path) -> None:
    """Both have the same size and bytes; what is a hole in both is not read."""
    assert one.stat().st_size == other.stat().st_size
    with one.open("rb") as left, other.open("rb") as right:
        for offset, length in sorted((*_data(left.fileno()), *_data(right.fileno()))):
            for at in range(offset, offset + length, MIB):
                size = min(MIB, offset + length - at)
                assert os.pread(left.fileno(), size, at) == os.pread(right.fileno(), size, at), f"at {at}"


def _data(fd: int) -> tuple[tuple[int, int], ...]:
    size = os.fstat(fd).st_size
    found = find_extents(fd, size)
    return ((0, size),) if found is None else found


@contextlib.contextmanager
def loop_device(image: Path) -> Iterator[Path]:
    """The image as a block device, until the body ends."""
    made = subprocess.run(
        ["losetup", "--find", "--show", image], capture_output=True, check=True, text=True
    ).stdout.strip()
    try:
        yield Path(made)
    finally:
        subprocess.run(["losetup", "--detach", made], check=True)


@contextlib.contextmanager
def mounted(device: Path, folder: Path, *options: str) -> Iterator[Path]:
    """The file system of a device, until the body ends."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", *options, device, folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
