"""The log of PostgreSQL through the real command: pushed once, refused where wrong, fetched, gaps told."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from donjon.app.config import Settings
from donjon.app.postgres.archive import Catalogue, WalArchive
from donjon.app.postgres.check import check_log
from donjon.app.postgres.push import push
from donjon.app.wiring import Workspace
from donjon.core.errors import IntegrityFailure, PathNotFound, Refused, SourceFailed, UsageError
from donjon.core.events import Silent
from donjon.testing.folders import remove_tree
from tests.integration.cli import Donjon
from tests.unit.test_postgres_wal import HEADER

MIB = 1 << 20


class Cluster:
    """A data directory with nothing in it but segments of 1 MiB, as a server would have written them."""

    def __init__(self, data: Path, system: int = 77) -> None:
        self.data = data
        self.system = system
        (data / "global").mkdir(parents=True)
        (data / "pg_wal" / "archive_status").mkdir(parents=True)
        (data / "global" / "pg_control").write_bytes(system.to_bytes(8, "little") + bytes(100))

    def segment(self, number: int, *, timeline: int = 1, seed: int = 0, ready: bool = False) -> Path:
        path = self.data / "pg_wal" / f"{timeline:08X}{number // 4096:08X}{number % 4096:08X}"
        header = HEADER.pack(0xD110, 2, timeline, number * MIB, 0, self.system, MIB, 8192)
        path.write_bytes(header + random.Random(number * 1000 + seed).randbytes(MIB - 40))
        if ready:
            (self.data / "pg_wal" / "archive_status" / f"{path.name}.ready").touch()
        return path

    def history(self, timeline: int, text: str = "1\t0/3000000\tno recovery target specified\n") -> Path:
        path = self.data / "pg_wal" / f"{timeline:08X}.history"
        path.write_text(text)
        return path


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "data")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Donjon]:
    """A host with a vault, for all tests here; each archives as a workload of its own."""
    folder = tmp_path_factory.mktemp("wal")
    host = Donjon(folder)
    host.init()
    yield host
    remove_tree(folder)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


@pytest.fixture
def space(host: Donjon) -> Workspace:
    return Workspace(Settings(host.home, kit=host.kit))


def archive(space: Workspace, name: str) -> WalArchive:
    return WalArchive(space, space.open_for_reading(), name)


def points(space: Workspace, name: str) -> int:
    catalogue = Catalogue(space, space.open_for_reading())
    catalogue.refresh()
    return sum(known.workload == f"{name}/wal" for known in catalogue.points)


def test_a_gap_is_told_by_push_check_and_fetch(
    host: Donjon, space: Workspace, cluster: Cluster, name: str, tmp_path: Path
) -> None:
    named = ("--workload", name)
    for number in (7, 8):
        assert push(space, name, cluster.segment(number), Silent()).warnings == []
    told = host.json("wal", "push", cluster.segment(10), *named)["warnings"]
    missing, later = "000000010000000000000009", "00000001000000000000000A"
    assert told == [f"{missing} was not archived by this host, and {later} was"]
    found = host.json("wal", "check", *named, code=4)
    assert found["missing"] == [missing]
    (line,) = found["logs"][0]["timelines"]
    assert (line["first"][-1], line["last"][-1], line["segments"]) == ("7", "A", 3)
    out = tmp_path / "RECOVERYXLOG"
    done = host.run("wal", "fetch", missing, out, *named, "--system", "77", code=126)
    assert b"is missing in the archive, though later segments are there" in done.stderr
    # Right after the end, though, the log just ends.
    host.run("wal", "fetch", "00000001000000000000000B", out, *named, code=1)
    assert not out.exists()
    host.run("wal", "fetch", "000000010000000000000008", out, *named)
    assert out.read_bytes() == cluster.segment(8).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["RECOVERYXLOG", "data"]
    # What was missing can still be pushed.
    push(space, name, cluster.segment(9), Silent())
    assert check_log(space, name, Silent()).missing == []


def test_a_vault_out_of_reach_is_not_the_end_of_the_log(host: Donjon, tmp_path: Path) -> None:
    arguments = ("000000010000000000000001", tmp_path / "x", "--workload", "w", "--system", "77")
    host.run("wal", "fetch", *arguments, "--vault", f"file://{tmp_path}/gone", code=126)
    host.without_kit().run("wal", "fetch", *arguments, code=126)


def test_the_same_again_is_fine_and_other_content_is_not(
    space: Workspace, cluster: Cluster, name: str
) -> None:
    path = cluster.segment(1)
    assert push(space, name, path, Silent()).names == [path.name]
    assert push(space, name, path, Silent()).names == []
    cluster.segment(1, seed=5)
    with pytest.raises(Refused, match="archived already, with other content"):
        push(space, name, path, Silent())
    assert points(space, name) == 1


def test_what_waits_comes_along_in_one_point(space: Workspace, cluster: Cluster, name: str) -> None:
    paths = [cluster.segment(number, ready=True) for number in range(10, 16)]
    cluster.segment(99).write_bytes(b"not finished")
    (cluster.data / "pg_wal" / "archive_status" / "junk.ready").touch()
    done = push(space, name, paths[0], Silent())
    assert done.names == [path.name for path in paths]
    assert points(space, name) == 1
    assert [push(space, name, path, Silent()).names for path in paths] == [[]] * 6
    found = archive(space, name)
    for path in paths:
        out = cluster.data / "out"
        found.fetch(77, path.name, out)
        assert out.read_bytes() == path.read_bytes()


def test_histories_and_notes_of_backups_are_archived_too(
    space: Workspace, cluster: Cluster, name: str
) -> None:
    history = cluster.history(2)
    note = history.with_name("000000010000000000000003.00000028.backup")
    note.write_text("START WAL LOCATION: ...\n")
    partial = cluster.segment(3).rename(history.with_name("000000010000000000000003.partial"))
    for path in (history, note, partial):
        push(space, name, path, Silent())
        out = cluster.data / "out"
        archive(space, name).fetch(77, path.name, out)
        assert out.read_bytes() == path.read_bytes()


def test_what_is_no_segment_is_refused(space: Workspace, cluster: Cluster, name: str) -> None:
    wrong = cluster.segment(1).rename(cluster.data / "pg_wal" / "000000010000000000000002")
    short = cluster.segment(4)
    os.truncate(short, 1000)
    with pytest.raises(IntegrityFailure, match="holds 000000010000000000000001"):
        push(space, name, wrong, Silent())
    with pytest.raises(IntegrityFailure, match="has 1000 bytes"):
        push(space, name, short, Silent())
    with pytest.raises(UsageError):
        push(space, name, cluster.data / "global" / "pg_control", Silent())
    with pytest.raises(SourceFailed):
        push(space, name, cluster.data / "pg_wal" / "000000010000000000000063", Silent())
    assert points(space, name) == 0


def test_clusters_of_one_workload_stay_apart(
    space: Workspace, cluster: Cluster, name: str, tmp_path: Path
) -> None:
    """As after pg_upgrade: the names of the log begin anew."""
    other = Cluster(tmp_path / "upgraded", system=78)
    first, second = cluster.segment(1), other.segment(1, seed=3)
    push(space, name, first, Silent())
    push(space, name, second, Silent())
    found = archive(space, name)
    for system, path in ((77, first), (78, second)):
        found.fetch(system, path.name, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == path.read_bytes()
    with pytest.raises(UsageError, match="several clusters"):
        found.only_system()


def test_a_lost_record_costs_a_point_and_a_fork_is_found(
    space: Workspace, host: Donjon, cluster: Cluster, name: str, tmp_path: Path
) -> None:
    path = cluster.segment(1)
    push(space, name, path, Silent())
    for record in host.home.glob("cache/*/wal/*"):
        record.unlink()
    assert push(space, name, path, Silent()).names == [path.name]
    found = archive(space, name)
    found.fetch(77, path.name, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == path.read_bytes()
    for record in host.home.glob("cache/*/wal/*"):
        record.unlink()
    cluster.segment(1, seed=9)  # another server that took over the timeline
    push(space, name, path, Silent())
    again = archive(space, name)
    again.refresh()
    with pytest.raises(IntegrityFailure, match="3 points hold different files"):
        again.fetch(77, path.name, tmp_path / "out")


def test_a_push_that_fails_is_not_taken_for_done(
    space: Workspace, cluster: Cluster, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cluster.segment(1)

    def fail(*_: object) -> None:
        raise SourceFailed("no")

    with monkeypatch.context() as patch:
        patch.setattr("donjon.repository.writing.WriteSession.commit", fail)
        with pytest.raises(SourceFailed):
            push(space, name, path, Silent())
    assert points(space, name) == 0
    assert push(space, name, path, Silent()).names == [path.name]
    assert points(space, name) == 1


def test_a_segment_that_shrinks_while_it_is_read_is_not_archived(
    space: Workspace, cluster: Cluster, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cluster.segment(1)
    back_up = "donjon.app.postgres.push.back_up"
    real = push.__globals__["back_up"]

    def shrunk(*arguments: object) -> object:
        os.truncate(path, 5000)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(back_up, shrunk)
        with pytest.raises(SourceFailed, match="changed while it was read"):
            push(space, name, path, Silent())
    assert points(space, name) == 0


def test_a_cache_of_points_that_is_damaged_is_made_anew(
    space: Workspace, host: Donjon, cluster: Cluster, name: str, tmp_path: Path
) -> None:
    path = cluster.segment(1)
    push(space, name, path, Silent())
    archive(space, name).refresh()
    for kept in host.home.glob("cache/*/postgres/points"):
        kept.write_bytes(b"\xff" + kept.read_bytes()[:50])
    archive(space, name).fetch(77, path.name, tmp_path / "out")
    with pytest.raises(PathNotFound):
        archive(space, name).fetch(77, "000000010000000000000002", tmp_path / "out")
    for kept in host.home.glob("cache/*/postgres/points"):
        kept.write_bytes(msgspec.msgpack.encode({"version": 99, "seen": [], "points": []}))
    archive(space, name).fetch(77, path.name, tmp_path / "out")
