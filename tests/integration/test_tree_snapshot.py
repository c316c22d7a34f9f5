"""Trees that are read from snapshots of btrfs and keep the paths that they have."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from donjon.app.kinds import registry
from donjon.app.kinds.base import Prepared, Surroundings
from donjon.app.snapshots import at_site
from donjon.core.errors import UsageError
from donjon.core.events import Silent
from donjon.plan.model import Plan
from donjon.plan.workloads import Tree
from donjon.snapshots.btrfs import FOLDER
from donjon.sources.base import Source
from donjon.sources.item import TreeItem
from donjon.sources.tree import TreeSource
from donjon.testing.conformance.sources import SourceTests, read_all
from donjon.testing.servers.btrfs import btrfs, make_subvolume, take_snapshot
from donjon.testing.trees import build_gnarly_tree
from tests.integration import engine
from tests.integration.engine import Place


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with btrfs(tmp_path_factory.mktemp("btrfs")) as place:
        yield place


@pytest.fixture
def volume(disk: Path) -> Path:
    path = disk / f"v{os.urandom(6).hex()}"
    make_subvolume(path)
    return path


@dataclass
class Run:
    """One preparation of a workload of a plan, with what happened around it."""

    tree: Tree
    keep: int | None = None
    own: frozenset[tuple[int, int]] = frozenset()
    notes: list[str] = field(default_factory=list)
    resting: bool = False
    rested: int = 0

    def note(self, message: str) -> None:
        self.notes.append(message)

    @contextlib.contextmanager
    def _quiesce(self) -> Iterator[None]:
        self.resting, self.rested = True, self.rested + 1
        try:
            yield
        finally:
            self.resting = False

    @property
    def plan(self) -> Plan:
        workload: dict[str, object] = {"source": self.tree.model_dump()}
        if self.keep is not None:
            workload["snapshots"] = {"keep": self.keep}
        site = {"provider": "on-premises", "account": "firm", "region": "cellar"}
        return Plan.model_validate(
            {
                "version": 1,
                "name": "p",
                "sites": {"here": site},
                "vaults": {},
                "workloads": {"home": workload},
            }
        )

    def prepare(self) -> contextlib.AbstractContextManager[Prepared]:
        plan = self.plan
        surroundings = Surroundings(
            plan, "home", plan.rules("home"), Silent(), lambda: None, self._quiesce, self.own
        )
        return registry.prepare(self.tree, surroundings)


def _tree(*paths: Path, **more: object) -> Tree:
    said = {"kind": "tree", "paths": [str(path) for path in paths], "snapshot": "btrfs", **more}
    return Tree.model_validate(said)


def _below(source: Source, folder: Path) -> dict[bytes, TreeItem]:
    start = os.fsencode(folder) + b"/"
    items = [item for item in source.items() if item.path.startswith(start)]
    assert all(isinstance(item, TreeItem) for item in items)
    return {item.path[len(start) :]: item for item in items}  # type: ignore[misc]


def test_the_tree_is_that_of_the_snapshot_under_the_paths_of_the_tree(volume: Path) -> None:
    (volume / "sub").mkdir()
    (volume / "sub" / "file").write_text("before")
    run = Run(_tree(volume / "sub"))
    with run.prepare() as prepared:
        assert prepared.paths == (os.fsencode(volume / "sub"),)
        (volume / "sub" / "file").write_text("after!!")
        (volume / "sub" / "new").touch()
        found = _below(prepared.source, volume / "sub")
        assert list(found) == [b"file"]
        content = found[b"file"].open()
        assert read_all(content) == b"before"
        assert content.close()
        assert found[b"file"].describe().size == 6
        assert prepared.source.problems() == []


def test_a_gnarly_tree_is_described_as_it_is_when_it_is_read_in_place(volume: Path) -> None:
    build_gnarly_tree(os.fsencode(volume / "gnarly"))
    in_place = {
        key: item.describe() for key, item in _below(TreeSource([os.fsencode(volume)]), volume).items()
    }
    moved = {os.fsencode(volume): os.fsencode(_snapshot(volume, "s"))}
    for most in (2, 64):
        source = TreeSource([os.fsencode(volume)], moved=moved, max_open_directories=most)
        seen = {key: item for key, item in _below(source, volume).items() if not key.startswith(b"s")}
        assert source.problems() == []
        described = {key: item.describe() for key, item in seen.items()}
        assert described.keys() == in_place.keys()
        for key, entry in described.items():
            assert msgspec.structs.replace(entry, device=in_place[key].device) == in_place[key], key


def _snapshot(volume: Path, name: str) -> Path:
    """A snapshot that lies beside its volume."""
    path = volume.parent / f"{volume.name}-{name}"
    take_snapshot(volume, path)
    return path


class TestMovedTree(SourceTests):
    @pytest.fixture(autouse=True)
    def _tree(self, volume: Path) -> None:
        self.volume = volume
        (volume / "a" / "b").mkdir(parents=True)
        (volume / "a" / "file").write_bytes(b"content" * 1000)
        (volume / "a" / "b" / "other").write_bytes(b"x")
        self.moved = {os.fsencode(volume): os.fsencode(_snapshot(volume, "s"))}
        shutil.rmtree(volume / "a")

    def make(self) -> Source:
        return TreeSource([os.fsencode(self.volume)], moved=self.moved)


def test_the_next_snapshot_looks_unchanged_file_by_file(volume: Path) -> None:
    (volume / "same").write_text("x")
    (volume / "other").write_text("x")
    run = Run(_tree(volume))
    with run.prepare() as prepared:
        before = {key: item.describe() for key, item in _below(prepared.source, volume).items()}
    (volume / "other").write_text("y")
    with run.prepare() as prepared:
        now = _below(prepared.source, volume)
        assert now[b"same"].same_as(before[b"same"])
        assert not now[b"other"].same_as(before[b"other"])


def test_all_that_is_at_rest_is_the_taking(volume: Path) -> None:
    run = Run(_tree(volume))
    with run.prepare():
        assert (run.rested, run.resting) == (1, False)


def test_without_a_policy_no_snapshot_stays_whatever_happens(volume: Path) -> None:
    run = Run(_tree(volume))
    with contextlib.suppress(KeyboardInterrupt), run.prepare() as prepared:
        left = list(prepared.snapshots)
        assert len(left) == 1
        raise KeyboardInterrupt
    assert _sets(volume) == []


def test_what_a_killed_run_left_behind_goes_with_the_next(volume: Path) -> None:
    killed = Run(_tree(volume)).prepare()
    killed.__enter__()  # and never left, as in a process that is killed
    assert len(_sets(volume)) == 1
    with Run(_tree(volume)).prepare():
        assert len(_sets(volume)) == 1
    assert _sets(volume) == []
    with contextlib.suppress(BaseException):
        killed.__exit__(None, None, None)


def test_with_a_policy_the_provider_is_handed_on_and_deletes_nothing(volume: Path) -> None:
    for _ in range(2):
        run = Run(_tree(volume), keep=1)
        with run.prepare() as prepared:
            assert prepared.provider is not None
            done = prepared.provider.wait(prepared.snapshots, timeout_s=60)
            assert done == list(prepared.snapshots)
            assert (prepared.provider.account, prepared.provider.region) != ("", "")
    assert len(_sets(volume)) == 2
    at = at_site(run.tree, run.plan, "here")
    assert (at.account, at.region) == ("firm", "cellar")
    assert len(list(at.list("home"))) == 2


def _sets(volume: Path) -> list[str]:
    return sorted(path.name for path in (volume / FOLDER).iterdir() if path.is_dir())


def test_several_subvolumes_are_one_set_and_one_within_another_is_found_in_its_own(volume: Path) -> None:
    make_subvolume(volume / "inner")
    (volume / "outer file").write_text("o")
    (volume / "inner" / "file").write_text("i")
    with Run(_tree(volume, volume / "inner")).prepare() as prepared:
        assert {one.set_size for one in prepared.snapshots} == {2}
        (volume / "inner" / "file").unlink()
        found = _below(prepared.source, volume)
        assert set(found) == {b"inner", b"inner/file", b"outer file"}
        assert read_all(found[b"inner/file"].open()) == b"i"
        assert prepared.source.problems() == []


def test_a_subvolume_within_that_nobody_named_is_told(volume: Path) -> None:
    make_subvolume(volume / "inner")
    with Run(_tree(volume)).prepare() as prepared:
        assert set(_below(prepared.source, volume)) == {b"inner"}
        ((path, reason),) = prepared.source.problems()
        assert path == os.fsencode(volume / "inner")
        assert "another subvolume" in reason


def test_neither_snapshots_nor_own_folders_are_taken_up(volume: Path) -> None:
    (volume / "vault").mkdir()
    (volume / "vault" / "pack").touch()
    status = (volume / "vault").stat()
    own = frozenset({(status.st_dev, status.st_ino)})
    run = Run(_tree(volume, exclude_caches=False), keep=3, own=own)
    for _ in range(2):
        with run.prepare() as prepared:
            assert _below(prepared.source, volume) == {}
            assert prepared.source.problems() == []


def test_a_tree_that_is_read_in_place_does_not_take_up_its_snapshots(volume: Path) -> None:
    (volume / "file").touch()
    with Run(_tree(volume), keep=3).prepare():
        plain = Tree.model_validate({"kind": "tree", "paths": [str(volume)]})
        with Run(plain).prepare() as prepared:
            found = _below(prepared.source, volume)
    assert set(found) == {b"file", os.fsencode(FOLDER)}  # as of any cache: the folder, and nothing in it


def test_excludes_mean_the_paths_that_are_shown(volume: Path) -> None:
    (volume / "logs").mkdir()
    (volume / "logs" / "a").touch()
    (volume / "kept").touch()
    with Run(_tree(volume, exclude=[f"{volume}/logs"])).prepare() as prepared:
        assert set(_below(prepared.source, volume)) == {b"kept"}


def test_a_link_to_a_folder_of_a_subvolume_is_resolved(volume: Path, tmp_path: Path) -> None:
    (volume / "a").mkdir()
    (volume / "a" / "file").write_text("x")
    (tmp_path / "link").symlink_to(volume)
    with Run(_tree(tmp_path / "link" / "a")).prepare() as prepared:
        assert set(_below(prepared.source, volume / "a")) == {b"file"}


def test_what_is_not_on_btrfs_is_said_before_anything_is_taken(volume: Path, tmp_path: Path) -> None:
    run = Run(_tree(volume, tmp_path))
    with pytest.raises(UsageError, match="not on btrfs") as caught, run.prepare():
        pass
    assert caught.value.hint
    assert run.rested == 0
    assert not (volume / FOLDER).exists()


def test_points_of_snapshots_go_on_from_each_other_and_restore_what_the_snapshot_had(
    volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole engine: a gnarly tree, another run with nothing new, and everything back."""
    build_gnarly_tree(os.fsencode(volume / "tree"))
    place = Place.make(tmp_path)
    outcomes = []
    for number in (1, 2):
        taken = _snapshot(volume, f"s{number}")
        moved = {os.fsencode(volume): os.fsencode(taken)}
        monkeypatch.setattr(engine, "TreeSource", functools.partial(TreeSource, moved=moved))
        outcomes.append(place.backup(volume / "tree"))
    first, second = outcomes
    assert (first.warnings, second.warnings) == ([], [])
    assert second.bytes_stored < first.bytes_stored
    assert second.counts.files_new == 0
    assert second.counts.files_unmodified > second.counts.files_changed  # those with several names
    place.assert_restores(volume / "tree")


def test_a_look_at_the_plan_tells_what_is_not_on_btrfs(volume: Path, tmp_path: Path) -> None:
    seen = list(registry.check_online(Run(_tree(volume, tmp_path, tmp_path / "gone")).plan, "home"))
    assert [one.is_good for one in seen] == [True, False, False]
    assert "not on btrfs" in seen[1].message
    assert "not there" in seen[2].message


def test_the_root_of_everything_can_be_a_snapshot(volume: Path) -> None:
    (volume / "etc").mkdir()
    (volume / "etc" / "file").write_text("of the snapshot")
    source = TreeSource([b"/"], moved={b"/": os.fsencode(_snapshot(volume, "root"))})
    found = {item.path: item for item in source.items()}
    assert set(found) == {b"/etc", b"/etc/file"}
    assert read_all(found[b"/etc/file"].open()) == b"of the snapshot"
