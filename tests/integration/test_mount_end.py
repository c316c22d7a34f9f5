"""A mount ends as it says: by Ctrl-C and by unmounting, with success and without a word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from donjon.testing.folders import remove_tree

DONJON = [sys.executable, "-m", "donjon"]
TIMEOUT_S = 60


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder with a vault of one point, its kit, and a place to mount at."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/letter").write_text("Dear all")
    (tmp_path / "mount").mkdir()
    try:
        for arguments in (
            ("init", "--single-recipient", "vault", "--kit", "kit"),
            ("backup", "source", "--workload", "home"),
        ):
            command = [*DONJON, *arguments, "--quiet"]
            subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), check=True, timeout=TIMEOUT_S)
        yield tmp_path
    finally:
        remove_tree(tmp_path)


def environment(place: Path) -> dict[str, str]:
    return os.environ | {"DONJON_HOME": str(place / "config"), "DONJON_KIT": str(place / "kit")}


def unmount(process: int, folder: Path) -> None:
    subprocess.run(["fusermount3", "-u", folder], check=True, timeout=TIMEOUT_S)


@pytest.mark.parametrize(
    "end",
    [
        lambda process, folder: os.kill(process, signal.SIGINT),
        lambda process, folder: os.kill(process, signal.SIGTERM),
        unmount,
    ],
    ids=["Ctrl-C", "kill", "fusermount3"],
)
def test_a_mount_ends_with_success(place: Path, end: Callable[[int, Path], None]) -> None:
    mount = subprocess.Popen(
        [*DONJON, "mount", "latest", "mount"],
        cwd=place,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert mount.stdout is not None
        assert mount.stdout.readline().startswith("Mounted 1 points")
        source = (place / "source/letter").relative_to("/")
        assert (place / "mount" / source).read_text() == "Dear all"
        end(mount.pid, place / "mount")
        _, errors = mount.communicate(timeout=TIMEOUT_S)
    finally:
        if mount.poll() is None:
            mount.kill()
            mount.wait()
            subprocess.run(["fusermount3", "-u", "-z", place / "mount"], check=False)
    assert mount.returncode == 0
    assert "donjon:" not in errors
    assert not os.path.ismount(place / "mount")
