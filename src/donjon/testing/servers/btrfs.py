"""A file system of btrfs on a loop device, in mounts that nobody else sees. Needs root."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_NEW_MOUNTS: Final = 0x20000  # CLONE_NEWNS
_PRIVATE: Final = 0x4000 | (1 << 18)  # MS_REC | MS_PRIVATE
#: mkfs.btrfs takes no less than 109 MiB.
_SIZE_BYTES: Final = 160 << 20


@contextlib.contextmanager
def private_mounts() -> Iterator[None]:
    """What this thread and its children mount is seen by them alone, and goes with them, also when killed.

    Raises ``OSError`` without CAP_SYS_ADMIN.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(libc.unshare(_NEW_MOUNTS))
        _check(libc.mount(b"none", b"/", None, _PRIVATE, None))
        try:
            yield
        finally:
            folder = Path.cwd()
            libc.setns(before, _NEW_MOUNTS)  # refused while threads of the body run: then this one stays
            os.chdir(folder)
    finally:
        os.close(before)


@contextlib.contextmanager
def btrfs(folder: Path) -> Iterator[Path]:
    """A mounted file system with an image in ``folder``, until the body ends. It may hold about 100 MiB.

    Raises ``RuntimeError`` if mkfs.btrfs is missing: a suite that needs it must fail, not be skipped.
    """
    mkfs = shutil.which("mkfs.btrfs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if mkfs is None:
        message = "mkfs.btrfs is missing; install Debian's package btrfs-progs"
        raise RuntimeError(message)
    image, place = folder / "image", folder / "mounted"
    with image.open("wb") as file:
        file.truncate(_SIZE_BYTES)
    place.mkdir()
    with private_mounts():
        _run(mkfs, "--quiet", str(image))
        # The loop device goes with the mount.
        _run("mount", "-t", "btrfs", "-o", "loop", str(image), str(place))
        try:
            yield place
        finally:
            _run("umount", "--lazy", str(place))
    image.unlink()


def make_subvolume(path: Path) -> None:
    """A new, empty subvolume."""
    _run("btrfs", "subvolume", "create", str(path))


def delete_subvolume(path: Path) -> None:
    """Delete one with what is in it."""
    _run("btrfs", "subvolume", "delete", str(path))


def take_snapshot(subvolume: Path, path: Path) -> None:
    """A snapshot as an administrator takes it."""
    _run("btrfs", "subvolume", "snapshot", "-r", str(subvolume), str(path))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - of tests
    if done.returncode:
        message = f"{' '.join(command)}: {done.stderr or done.stdout}"
        raise RuntimeError(message)


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
