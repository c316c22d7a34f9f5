"""The demo does what it says, fails when a proof fails, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from donjon.testing.folders import remove_tree
from tools.demo_stage import DemoFailed, prove

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
    """Files, and processes that were started with a path of the demo."""
    return [*(place / "tmp").iterdir(), *(place / "user").iterdir(), *processes(place)]


def processes(place: Path) -> list[Path]:
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if os.fsencode(place / "tmp") in command.read_bytes():
                found.append(command.parent)
    return found


def tables(output: str) -> list[dict[str, list[str]]]:
    """What each drill tells of each attack: outcome, what was expected, seen and answered."""
    found: list[dict[str, list[str]]] = []
    for line in output.splitlines():
        outcome, *cells = re.split(r"\s{2,}", line.strip())
        if line.startswith("Attacked "):
            found.append({})
        elif found and outcome in {"passed", "skipped", "FAILED"} and len(cells) > 2:
            found[-1][cells[0]] = [outcome, *cells[1:]]
    return found


#: What a server with locks refuses to everybody, and how.
REFUSED = {
    "delete a locked version": "403 AccessDenied",
    "delete a locked version, with the bypass of GOVERNANCE": "403 AccessDenied",
    "delete locked versions in a batch": "AccessDenied",
    "delete in a batch, with the bypass": "AccessDenied",
    "shorten a lock": "403 AccessDenied",
    "shorten a lock, with the bypass": "403 AccessDenied",
    "change a lock to GOVERNANCE": "403 AccessDenied",
    "change a lock to GOVERNANCE, with the bypass": "403 AccessDenied",
    "remove a lock": "400 InvalidRequest",
}
OF_THE_BUCKET = {"suspend versioning": "409 InvalidBucketState", "delete the bucket": "409 BucketNotEmpty"}


def test_the_demo_loses_and_recovers_real_files_and_leaves_nothing_behind(place: Path) -> None:
    done = play(place)
    assert (done.returncode, done.stderr) == (0, "")
    commands = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("$ donjon")]
    first = ["init", "backup", "backup", "points", "diff", "verify", "restore"]
    second = ["init", "backup", "drill", "drill", "verify", "restore"]
    third = ["init", "auditor", "plan", "plan", "verify", "verify", "restore", "restore", "restore"]
    assert commands == [*first, *second, *third, "status", "status"]
    for text in (
        "2 added, 2 removed",
        "Sound: ",
        "are garbage now",
        "attribute came back",
        "tried in 2 drills; none of it destroyed anything, and all is signed",
        "What to try next",
    ):
        assert text in done.stdout
    assert_second_act(done.stdout.partition("== Third act")[0])
    assert_third_act(done.stdout.partition("== Third act")[2])
    assert left_behind(place) == []


def assert_second_act(output: str) -> None:
    """Each attack was refused by the server, or covered what is still there; then all came back."""
    writer, administrator = tables(output)
    assert set(writer) == set(administrator)
    assert not [what for table in (writer, administrator) for what in table if table[what][0] == "FAILED"]
    for table in (writer, administrator):
        assert {what: table[what] for what in REFUSED} == {
            what: ["passed", "refused", "refused", code] for what, code in REFUSED.items()
        }
    for what, code in OF_THE_BUCKET.items():
        assert administrator[what] == ["passed", "refused", "refused", code]
        assert writer[what] == ["passed", "refused", "refused", "403 AccessDenied"]
    assert writer["hide an object with a delete marker"][2] == "refused"
    assert administrator["hide an object with a delete marker"][2] == "accepted, nothing lost"
    assert writer["extend a lock by 99 years"][2] == "known: went through"
    found = re.search(r"All (\d+) objects are there, with the same bytes and the same locks.", output)
    assert found is not None
    objects = int(found[1])
    assert objects >= 6
    # What the drills left, two canaries each and their evidence, is laid over as well.
    assert output.count("  hidden, suspicious   ") == objects + 4 + 2
    assert "attribute came back from the bucket." in output


def assert_third_act(output: str) -> None:
    """Every cell was met for each workload, until the copy was destroyed on which the copies rested."""
    rows = [
        line.split() for line in output.splitlines() if line.startswith(("documents ", "machine ", "photos "))
    ]
    green, red = rows[:3], rows[3:6]
    assert [row[1:3] for row in green] == [["3", "ok"]] * 3
    assert not any("RED" in row for row in green)
    assert [row[1:3] for row in red] == [["2", "RED"]] * 3
    assert "copies: backup cellar is not whole" in output


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
@pytest.mark.parametrize(
    "moment", ["== Some real files", "$ donjon backup", "== Second act", "== Somebody", "$ donjon plan run"]
)
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
        if not any(line.startswith(moment) for line in demo.stdout):
            pytest.fail(f"the demo ended before {moment!r}: {demo.communicate(timeout=TIMEOUT_S)[1]}")
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
