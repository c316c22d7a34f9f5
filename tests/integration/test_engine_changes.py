"""What counts as changed, and files that change, grow, shrink or vanish while they are read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from donjon.backup import files
from donjon.core.units import KIB, MIB
from donjon.format.entries import Entry, Kind
from donjon.repository.tree import Tree
from donjon.sources.content import FileContent
from tests.integration.engine import Place, change, fill


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path / "place")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 60, 1)
    return folder


def _keep_times(path: Path, act: Callable[[], object]) -> None:
    before = path.stat()
    act()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _rewrite(path: Path) -> None:
    """Other bytes, same size and times: only the time of the status change tells."""
    _keep_times(path, lambda: path.write_bytes(bytes(255 - byte for byte in path.read_bytes())))


def _replace(path: Path) -> None:
    """Another file under the name, same size and times."""
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[::-1])
    _keep_times(path, lambda: other.replace(path))


def _become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(b"x")


def _become_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _become_hole(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, 10**6)


CHANGES: dict[str, Callable[[Path], object]] = {
    "content, size and times kept": _rewrite,
    "another file, size and times kept": _replace,
    "appended": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "mode": lambda path: path.chmod(0o600),
    "owner": lambda path: os.chown(path, 1234, 1235),
    "times": lambda path: os.utime(path, ns=(1, -(10**18))),
    "attribute": lambda path: os.setxattr(path, "user.new", b"value"),
    "second name": lambda path: os.link(path, path.with_name("second")),
    "a folder now": _become_folder,
    "a link now": _become_link,
    "gone": lambda path: path.unlink(),
    "a hole now": _become_hole,
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_change_is_seen(place: Place, source: Path, what: str) -> None:
    place.backup(source)
    wanted = source / "d1" / "f0001"
    assert wanted.stat().st_size > 100
    CHANGES[what](wanted)
    outcome = place.backup(source)
    assert outcome.counts.files_unmodified >= 58
    place.assert_restores(source)
    place.assert_sound()


def test_nothing_is_read_when_nothing_changed(place: Place, source: Path) -> None:
    place.backup(source)
    for _ in range(3):
        outcome = place.backup(source)
        counts = outcome.counts
        assert (counts.files_unmodified, counts.files_new, counts.files_changed) == (60, 0, 0)
        assert counts.bytes_read == 0
        assert outcome.bytes_stored < 2 * KIB
        place.assert_restores(source)


def test_read_all_reads_all_and_stores_nothing_twice(place: Place, source: Path) -> None:
    first = place.backup(source)
    again = place.host.backup(place.store, source, read_all=True)
    assert again.counts.bytes_read == first.counts.bytes_read > 0
    assert again.bytes_stored < 2 * KIB
    place.assert_restores(source)


def test_what_is_moved_is_read_but_not_stored_again(place: Place, source: Path) -> None:
    first = place.backup(source)
    source.joinpath("d0").rename(source / "moved")
    second = place.backup(source)
    assert second.counts.files_new > 0
    assert second.bytes_stored < first.bytes_stored / 4
    place.assert_restores(source)


def test_many_rounds_of_changes_restore_exactly(place: Place, source: Path, tmp_path: Path) -> None:
    for seed in range(8):
        change(source, seed)
        place.backup(source)
        place.assert_restores(source)
    place.assert_sound()


def test_hard_links_may_come_and_go(place: Place, source: Path) -> None:
    first = source / "d1" / "f0001"
    os.link(first, source / "zz-second")
    place.backup(source)
    place.assert_restores(source)
    first.unlink()  # now the other name comes first
    place.backup(source)
    place.assert_restores(source)
    os.link(source / "zz-second", source / "aa-third")
    place.backup(source)
    place.assert_restores(source)


def test_a_file_of_very_many_chunks_is_kept_by_lists_of_lists(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_DIRECT_CHUNKS", 16)
    monkeypatch.setattr(files, "_IDS_PER_LIST", 8)
    monkeypatch.setattr("donjon.backup.walk.MAX_DIRECT_CHUNKS", 16)
    source = tmp_path / "large"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(3 * MIB))
    (source / "holes").touch()
    with (source / "holes").open("r+b") as file:
        for offset in range(0, 40 * MIB, 5 * MIB):
            file.seek(offset)
            file.write(os.urandom(300 * KIB))
        file.truncate(40 * MIB)
    place.backup(source)
    assert any(entry.indirect for entry in _entries(place))
    place.assert_restores(source)
    place.assert_sound()
    outcome = place.backup(source)
    assert outcome.counts.files_unmodified == 2
    (source / "beside").write_bytes(b"so that the segment is written anew")
    outcome = place.backup(source)
    assert outcome.counts.files_unmodified == 2
    place.assert_restores(source)
    place.assert_sound()


def _entries(place: Place) -> list[Entry]:
    vault = place.open()
    return [entry for _, entry in Tree(place.points()[-1], place.reader(vault)).entries()]


# --- While being read -----------------------------------------------------------------------------


def _act_while_reading(
    monkeypatch: pytest.MonkeyPatch, name: bytes, act: Callable[[], object], *, times: int
) -> None:
    """Let ``act`` happen between two reads of this file, in its first ``times`` rounds of reading."""
    real = FileContent.readinto
    left = times

    def readinto(content: FileContent, buffer: memoryview) -> int:
        nonlocal left
        path = os.readlink(f"/proc/self/fd/{content._fd}")
        count = real(content, buffer)
        if left and os.fsencode(path).endswith(name):
            left -= 1
            time.sleep(0.01)  # so that the clock of the file system moves on
            act()
        return count

    monkeypatch.setattr(FileContent, "readinto", readinto)


@pytest.mark.parametrize("size_bytes", [5000, 9 * MIB])
def test_a_file_that_changes_once_while_it_is_read_is_read_again(
    place: Place, source: Path, monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    busy = source / "busy"
    busy.write_bytes(os.urandom(size_bytes))
    _act_while_reading(monkeypatch, b"/busy", lambda: busy.write_bytes(os.urandom(size_bytes - 7)), times=1)
    outcome = place.backup(source)
    assert outcome.counts.problems == []
    place.assert_restores(source)
    place.assert_sound()


@pytest.mark.parametrize("size_bytes", [5000, 9 * MIB])
def test_a_file_that_never_holds_still_is_reported(
    place: Place, source: Path, monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    busy = source / "busy"
    busy.write_bytes(os.urandom(size_bytes))
    _act_while_reading(monkeypatch, b"/busy", lambda: busy.write_bytes(os.urandom(size_bytes)), times=99)
    outcome = place.backup(source)
    assert [problem.path for problem in outcome.counts.problems] == [os.fsencode(busy)]
    assert "changed while it was read" in outcome.counts.problems[0].reason
    place.assert_sound()
    monkeypatch.undo()
    outcome = place.backup(source)
    assert outcome.counts.problems == []
    place.assert_restores(source)


def test_what_vanishes_is_reported_and_the_rest_is_kept(
    place: Place, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victims = sorted(source.joinpath("d3").iterdir())[1:]

    def remove() -> None:
        for victim in victims:
            victim.unlink()

    _act_while_reading(monkeypatch, b"/d0/f0000", remove, times=1)
    outcome = place.backup(source)
    reported = {problem.path for problem in outcome.counts.problems}
    assert reported == {os.fsencode(victim) for victim in victims}
    assert all("vanished" in problem.reason for problem in outcome.counts.problems)
    target = tmp_path / "out"
    place.restore(target, under=os.fsencode(source).lstrip(b"/"))
    left = {path.relative_to(source): path.read_bytes() for path in source.rglob("f*") if path.is_file()}
    found = {path.relative_to(target): path.read_bytes() for path in target.rglob("f*") if path.is_file()}
    assert found == left


def test_a_small_file_that_grows_large_while_it_is_read_is_stored_whole(
    place: Place, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grows = source / "grows"
    grows.write_bytes(b"small")
    _act_while_reading(monkeypatch, b"/grows", lambda: grows.write_bytes(os.urandom(6 * MIB)), times=1)
    outcome = place.backup(source)
    assert outcome.counts.problems == []
    place.assert_restores(source)
    place.assert_sound()


def test_a_large_file_that_is_cut_off_while_it_is_read_is_read_again(
    place: Place, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrinks = source / "shrinks"
    shrinks.write_bytes(os.urandom(20 * MIB))
    _act_while_reading(monkeypatch, b"/shrinks", lambda: os.truncate(shrinks, 2 * MIB + 5), times=1)
    outcome = place.backup(source)
    assert outcome.counts.problems == []
    place.assert_restores(source)
    place.assert_sound()


def test_a_folder_swapped_for_a_link_while_walking_leads_nowhere(
    place: Place, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f0005").write_bytes(b"not to be backed up")
    swapped = source / "d5"

    def swap() -> None:
        if not swapped.is_symlink():
            swapped.rename(source / "d5-was-here")
            swapped.symlink_to(outside)

    _act_while_reading(monkeypatch, b"/d0/f0000", swap, times=1)
    place.backup(source)
    names = {entry.name for entry in _entries(place) if entry.kind == Kind.FILE}
    target = tmp_path / "out"
    place.restore(target)
    for path in target.rglob("f0005"):
        assert path.read_bytes() != b"not to be backed up"
    assert b"f0000" in names
