"""The demo does what it says, fails when a proof fails, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from donjon.testing.folders import remove_tree
from tools.demo import DemoFailed, prove

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 300


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """The only folder that the demo may write to; its home is there as well."""
    for name in ("tmp", "user"):
        (tmp_path / name).mkdir()
    yield tmp_path
    remove_tree(tmp_path / "tmp")


def environment(place: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    return own | {
        "TMPDIR": str(place / "tmp"),
        "HOME": str(place / "user"),
        "DONJON_HOME": str(place / "user/donjon"),
        "DONJON_VAULT": "a vault of the user, which the demo must not touch",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def play(place: Path, *prefix: str) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-m", "tools.demo"]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def left_behind(place: Path) -> list[Path]:
    return [*(place / "tmp").iterdir(), *(place / "user").iterdir()]


def test_the_demo_loses_and_recovers_real_files_and_leaves_nothing_behind(place: Path) -> None:
    done = play(place)
    assert (done.returncode, done.stderr) == (0, "")
    commands = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("$ donjon")]
    assert commands == ["init", "backup", "backup", "points", "diff", "verify", "restore"]
    for text in (
        "2 added, 2 removed",
        "Sound: ",
        "are garbage now",
        "attribute came back",
        "What to try next",
    ):
        assert text in done.stdout
    assert left_behind(place) == []


def test_without_the_immutable_flag_the_demo_says_that_nothing_would_hold(place: Path) -> None:
    mere_user = ("setpriv", "--bounding-set=-linux_immutable", "--inh-caps=-linux_immutable")
    done = play(place, *(mere_user if os.geteuid() == 0 else ()))
    assert done.returncode == 0
    assert "The vault is spared here" in done.stdout
    assert "refused to be overwritten" not in done.stdout
    assert left_behind(place) == []


@pytest.mark.parametrize(
    ("number", "everybody"), [(signal.SIGINT, True), (signal.SIGTERM, False)], ids=["Ctrl-C", "kill"]
)
@pytest.mark.parametrize("moment", ["== Some real files", "$ donjon backup", "== Prove it"])
def test_an_interrupted_demo_leaves_nothing_behind(
    place: Path, number: signal.Signals, everybody: bool, moment: str
) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "tools.demo"],
        cwd=ROOT,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert demo.stdout is not None
        assert any(line.startswith(moment) for line in demo.stdout)
        (os.killpg if everybody else os.kill)(demo.pid, number)
        _, errors = demo.communicate(timeout=TIMEOUT_S)
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
            demo.wait()
    assert demo.returncode == 130
    assert "the temporary folder is removed" in errors
    assert "Traceback" not in errors
    assert left_behind(place) == []


def test_a_demo_that_cannot_write_fails_and_still_cleans_up(place: Path) -> None:
    done = play(place, "prlimit", f"--fsize={8 << 20}")  # no file may grow larger, as on a full disk
    assert done.returncode == 1
    assert done.stderr.lstrip().splitlines()[-1].startswith("The demo failed: ")
    assert "Traceback" not in done.stderr
    assert left_behind(place) == []


def test_a_recovered_tree_that_differs_by_a_bit_is_no_proof(tmp_path: Path) -> None:
    for name, content in (("witness", b"\x00same"), ("recovered", b"\x01same")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(content)
        os.utime(tmp_path / name / "file", ns=(0, 0))
    with pytest.raises(DemoFailed, match="content differs"):
        prove(tmp_path / "witness", tmp_path / "recovered")
