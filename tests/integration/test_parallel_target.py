"""Small files made by processes beside the one that restores."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from donjon.core.errors import IntegrityFailure, Refused, TargetFailed
from donjon.core.events import Silent
from donjon.format.entries import Entry, Kind
from donjon.recovery.request import Request
from donjon.recovery.restore import restore
from donjon.targets.base import NewFile, Overwrite
from donjon.targets.parallel import ParallelTreeTarget
from donjon.testing.trees import build_gnarly_tree, compare_trees
from tests.integration.engine import Place, fill

DATA = b"data"


def entry(name: bytes = b"f", size: int = 4, **more: object) -> Entry:
    return Entry(depth=0, name=name, kind=int(Kind.FILE), mode=0o640, mtime_s=5, size=size, **more)  # type: ignore[arg-type]


def file(path: bytes, data: bytes = DATA, **more: object) -> NewFile:
    return NewFile(path, entry(path.rpartition(b"/")[2], len(data), **more), [(0, data)])


@pytest.fixture
def target(tmp_path: Path) -> Iterator[ParallelTreeTarget]:
    with ParallelTreeTarget(tmp_path / "root", Overwrite.NEVER, processes=2, start_after_files=0) as made:
        yield made


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def test_files_are_made_by_other_processes_which_end(tmp_path: Path) -> None:
    before = set(children())
    with ParallelTreeTarget(tmp_path / "root", Overwrite.NEVER, processes=2, start_after_files=1) as target:
        assert target.write_files([file(b"first")]) == [True]
        assert set(children()) == before
        assert target.write_files([file(b"a"), file(b"b", b"")]) == [True, True]
        assert len(set(children()) - before) == 2
    assert set(children()) == before
    assert {path.name: path.read_bytes() for path in (tmp_path / "root").iterdir()} == {
        "first": DATA, "a": DATA, "b": b"",
    }  # fmt: skip
    status = (tmp_path / "root" / "a").stat()
    assert (status.st_mode & 0o7777, status.st_mtime) == (0o640, 5)


def test_holes_stay_holes(target: ParallelTreeTarget, tmp_path: Path) -> None:
    size = 1 << 20
    holey = NewFile(b"holey", entry(b"holey", size), [(4096, b"x" * 4096), (size - 2, b"yy")])
    assert target.write_files([holey]) == [True]
    data = (tmp_path / "root" / "holey").read_bytes()
    assert data == bytes(4096) + b"x" * 4096 + bytes(size - 8192 - 2) + b"yy"
    assert (tmp_path / "root" / "holey").stat().st_blocks * 512 < size


def test_each_file_has_an_outcome_of_its_own(target: ParallelTreeTarget, tmp_path: Path) -> None:
    (tmp_path / "root" / "there").write_bytes(b"mine")
    too_long = NewFile(b"long", entry(b"long", 2), [(0, DATA)])
    outcomes = target.write_files(
        [file(b"there"), file(b"no/such/folder"), too_long, file(b"../out"), file(b"good")]
    )
    kept, missing, damaged, refused, made = outcomes
    assert (kept, made) == (False, True)
    assert isinstance(missing, FileNotFoundError)
    assert missing.filename == b"no/such/folder"
    assert isinstance(damaged, IntegrityFailure)
    assert isinstance(refused, Refused)
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["good", "there"]
    assert (tmp_path / "root" / "there").read_bytes() == b"mine"
    assert not (tmp_path / "out").exists()


def test_warnings_come_back(target: ParallelTreeTarget) -> None:
    odd = file(b"odd", xattrs=((b"nonsense.name", b"value"),))
    assert target.write_files([odd, file(b"plain")]) == [True, True]
    [(path, reason)] = target.warnings()
    assert path == b"odd"
    assert "nonsense.name" in reason


def test_what_does_not_fit_into_the_shared_memory_is_made_here(
    target: ParallelTreeTarget, tmp_path: Path
) -> None:
    data = os.urandom(7 << 20)
    assert target.write_files([file(b"small"), file(b"big", data)]) == [True, True]
    assert (tmp_path / "root" / "big").read_bytes() == data


def test_many_threads_share_the_processes(target: ParallelTreeTarget, tmp_path: Path) -> None:
    seeds = random.Random(1)
    batches = [
        {b"%d-%d" % (n, i): seeds.randbytes(seeds.randrange(5000)) for i in range(50)} for n in range(40)
    ]
    with ThreadPoolExecutor(6) as pool:
        done = pool.map(lambda b: target.write_files([file(path, data) for path, data in b.items()]), batches)
        assert all(outcomes == [True] * 50 for outcomes in done)
    for batch in batches:
        for path, data in batch.items():
            assert (tmp_path / "root" / os.fsdecode(path)).read_bytes() == data


def test_the_root_stays_what_it_was_whatever_takes_its_name(
    target: ParallelTreeTarget, tmp_path: Path
) -> None:
    (tmp_path / "root").rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "elsewhere")
    assert target.write_files([file(b"f")]) == [True]
    assert (tmp_path / "moved" / "f").read_bytes() == DATA
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_process_that_dies_is_an_error_and_closing_still_works(
    target: ParallelTreeTarget, tmp_path: Path
) -> None:
    before = set(children())
    target.write_files([file(b"first")])
    for pid in set(children()) - before:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(TargetFailed, match="ended unexpectedly"):
        target.write_files([file(b"after")])
    target.close()
    with ParallelTreeTarget(tmp_path / "root", Overwrite.NEVER, processes=2, start_after_files=0) as again:
        assert again.write_files([file(b"first"), file(b"second")]) == [False, True]


def test_the_processes_see_no_secret_of_the_environment(
    target: ParallelTreeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    before = set(children())
    target.write_files([file(b"f")])
    new = set(children()) - before
    assert new
    for pid in new:
        assert b"planted" not in Path(f"/proc/{pid}/environ").read_bytes()


_KILLED = """
import sys, time
from tests.integration.test_parallel_target import children, file
from donjon.targets.base import Overwrite
from donjon.targets.parallel import ParallelTreeTarget
target = ParallelTreeTarget(sys.argv[1].encode(), Overwrite.NEVER, processes=2, start_after_files=0)
target.write_files([file(b"f")])
print(*children(), flush=True)
time.sleep(60)
"""


def test_the_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(tmp_path / "root")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while any(_is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_restore_through_processes_is_bit_exact(tmp_path: Path) -> None:
    place = Place.make(tmp_path)
    source = tmp_path / "source"
    build_gnarly_tree(os.fsencode(source))
    fill(source, 700, 3)
    place.backup(source)
    [point] = place.points()
    for verify in (False, True):
        out = tmp_path / f"out{verify}"
        request = Request(point, os.fsencode(source).lstrip(b"/"), verify=verify)
        with ParallelTreeTarget(out, Overwrite.NEVER, processes=2, start_after_files=100) as target:
            done = restore(request, place.reader(place.open()), target, Silent())
        assert (done.problems, done.damage) == ([], [])
        assert compare_trees(os.fsencode(source), os.fsencode(out)) == []
