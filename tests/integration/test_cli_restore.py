"""`donjon restore` through the real command."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from donjon.testing.folders import remove_tree
from donjon.testing.trees import build_gnarly_tree, compare_trees
from tests.integration.cli import Donjon
from tests.integration.engine import fill


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small tree of plain files."""
    folder = tmp_path / "source"
    fill(folder, 60, 1)
    (folder / "d1" / "notes.txt").write_bytes(b"read me")
    (folder / "notes.txt").write_bytes(b"read me, too")
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def _state(folder: Path) -> list[tuple[str, int, int]]:
    return sorted(
        (str(path), path.lstat().st_mtime_ns, path.lstat().st_ctime_ns) for path in folder.rglob("*")
    )


def test_a_whole_point_comes_back_under_its_paths(donjon: Donjon, source: Path, target: Path) -> None:
    donjon.run("backup", source)
    done = donjon.json("restore", "latest", target)
    assert (done["files"], done["kept"], done["problems"], done["damage"]) == (62, 0, [], [])
    inside = Path(f"{target}{source}")
    assert compare_trees(os.fsencode(source), os.fsencode(inside)) == []


def test_a_sub_tree_and_a_single_file_come_right_into_the_target(
    donjon: Donjon, source: Path, target: Path
) -> None:
    donjon.run("backup", source, "--workload", "files")
    donjon.run("restore", f"files@latest:{source}/d1", target)
    assert compare_trees(os.fsencode(source / "d1"), os.fsencode(target)) == []
    donjon.run("restore", f"latest:{source}/d2/f0002", target / "one")
    assert (target / "one" / "f0002").read_bytes() == (source / "d2" / "f0002").read_bytes()
    done = donjon.run("restore", f"latest:{source}/nowhere", target, code=1)
    assert b"nowhere" in done.stderr


def test_everything_that_a_tree_can_have_comes_back(donjon: Donjon, tmp_path: Path, target: Path) -> None:
    gnarly = tmp_path / "gnarly"
    build_gnarly_tree(os.fsencode(gnarly))
    try:
        donjon.run("backup", gnarly)
        planned = donjon.json("restore", f"latest:{gnarly}", target, "--dry-run")
        done = donjon.json("restore", f"latest:{gnarly}", target, "--verify")
        assert done["problems"] == []
        for what in ("files", "directories", "others", "kept", "bytes"):
            assert planned[what] == done[what]
        assert done["verified"] > 0
        assert compare_trees(os.fsencode(gnarly), os.fsencode(target)) == []
    finally:
        remove_tree(gnarly)
        remove_tree(target)


def test_patterns_choose_what_comes_back(donjon: Donjon, source: Path, target: Path) -> None:
    donjon.run("backup", source)
    point = f"latest:{source}"
    donjon.run("restore", point, target / "a", "--include", "notes.txt")
    assert _names(target / "a") == {"notes.txt", "d1/notes.txt"}
    assert not (target / "a" / "d2").exists()
    donjon.run("restore", point, target / "b", "--include", "d1/", "--include", "d2/", "--exclude", "f000*")
    assert _names(target / "b") == {
        name for name in _names(source) if name.startswith(("d1/", "d2/")) and "f000" not in name
    }
    donjon.run("restore", point, target / "c", "--exclude", f"{source}/d*", "--exclude", "!d3/")
    assert _names(target / "c") == {
        name for name in _names(source) if not name.startswith("d") or name.startswith("d3/")
    }
    done = donjon.run("restore", point, target / "d", "--include", "[z-a]", code=2)
    assert b"pattern" in done.stderr


def test_what_is_there_stays_unless_told_otherwise(donjon: Donjon, source: Path, target: Path) -> None:
    donjon.run("backup", source)
    point = f"latest:{source}"
    donjon.run("restore", point, target)
    changed, same, gone = target / "notes.txt", target / "d1" / "notes.txt", target / "d2" / "f0002"
    changed.write_bytes(b"changed since")
    same_inode = same.stat().st_ino
    gone.unlink()
    never = donjon.json("restore", point, target)
    assert (never["files"], never["kept"]) == (1, 61)
    assert gone.exists()
    assert changed.read_bytes() == b"changed since"
    different = donjon.json("restore", point, target, "--overwrite", "if-different")
    assert (different["files"], different["kept"]) == (1, 61)
    assert changed.read_bytes() == b"read me, too"
    assert same.stat().st_ino == same_inode
    always = donjon.json("restore", point, target, "--overwrite", "always")
    assert (always["files"], always["kept"]) == (62, 0)
    assert compare_trees(os.fsencode(source), os.fsencode(target)) == []


def test_a_dry_run_tells_and_touches_nothing(donjon: Donjon, source: Path, target: Path) -> None:
    donjon.run("backup", source)
    point = f"latest:{source}"
    planned = donjon.json("restore", point, target, "--dry-run")
    assert not target.exists()
    assert (planned["dry_run"], planned["files"], planned["kept"], planned["replaced"]) == (True, 62, 0, 0)
    donjon.run("restore", point, target)
    (target / "notes.txt").write_bytes(b"changed since")
    (target / "d2" / "f0002").unlink()
    before = _state(target)
    never = donjon.json("restore", point, target, "--dry-run")
    assert (never["files"], never["replaced"]) == (1, 0)
    different = donjon.json("restore", point, target, "--dry-run", "--overwrite", "if-different")
    assert (different["files"], different["replaced"]) == (2, 1)
    listed = donjon.text("restore", point, target, "--dry-run", "--overwrite", "if-different", "-v")
    assert "replace  /notes.txt\n" in listed
    assert "make     /d2/f0002\n" in listed
    assert before == _state(target)


@pytest.mark.parametrize("overwrite", ["never", "if-different", "always"])
def test_a_dry_run_foresees_what_the_target_refuses(
    donjon: Donjon, source: Path, target: Path, tmp_path: Path, overwrite: str
) -> None:
    (source / "d9").mkdir()
    (source / "d9" / "inner").write_bytes(b"inner")
    donjon.run("backup", source)
    target.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (target / "d1").symlink_to(elsewhere)  # would lead out of the target
    (target / "d2").write_bytes(b"a file where a folder should be")
    (target / "notes.txt").mkdir()
    (target / "notes.txt" / "full").write_bytes(b"")
    command = ("restore", f"latest:{source}", target, "--overwrite", overwrite)
    planned = donjon.json(*command, "--dry-run", code=3)
    done = donjon.json(*command, code=3)
    refused = {row["path"] for row in done["problems"]}
    assert "/d1" in refused
    assert {row["path"] for row in planned["problems"]} == refused
    assert (planned["files"], planned["kept"]) == (done["files"], done["kept"])
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("overwrite", ["never", "if-different", "always"])
def test_a_dry_run_foretells_a_second_restore_over_the_first(
    donjon: Donjon, tmp_path: Path, target: Path, overwrite: str
) -> None:
    gnarly = tmp_path / "gnarly"
    build_gnarly_tree(os.fsencode(gnarly))
    command = ("restore", f"latest:{gnarly}", target, "--overwrite", overwrite)
    try:
        donjon.run("backup", gnarly)
        donjon.run(*command)
        for path in sorted((target / "contents").iterdir())[:3]:
            path.unlink()
        planned, done = donjon.json(*command, "--dry-run"), donjon.json(*command)
        for what in ("files", "others", "kept", "bytes"):
            assert planned[what] == done[what]
    finally:
        remove_tree(gnarly)
        remove_tree(target)


def test_part_of_the_standard_library_comes_back_changed_or_lost(donjon: Donjon, target: Path) -> None:
    library = Path(json.__file__).parent.parent
    donjon.run("backup", library, "--exclude", "site-packages/", "--exclude", "__pycache__/")
    point = f"latest:{library}"
    done = donjon.json("restore", point, target, "--verify")
    assert done["verified"] == done["files"] > 500
    files = [path for path in sorted(target.rglob("*.py")) if path.is_file() and not path.is_symlink()]
    for number, path in enumerate(files):
        if number % 10 == 0:
            path.unlink()
        elif number % 10 == 1:
            path.write_bytes(b"garbage")
    donjon.run("restore", point, target, "--overwrite", "if-different")
    copy = target.with_name("copy")
    donjon.run("restore", point, copy)
    assert compare_trees(os.fsencode(copy), os.fsencode(target)) == []
    for path in files:
        assert path.read_bytes() == (library / path.relative_to(target)).read_bytes()


def test_damage_ends_with_12_and_the_rest_comes_back_when_asked(
    donjon: Donjon, source: Path, target: Path
) -> None:
    donjon.run("backup", source)
    (source / "new").write_bytes(os.urandom(40_000))
    donjon.run("backup", source)
    packs = sorted(donjon.vault.glob("packs/*/*"), key=lambda path: path.stat().st_mtime_ns)
    victim = max(packs[2:], key=lambda path: path.stat().st_size)  # of the second backup, with data
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.chmod(0o600)
    victim.write_bytes(data)
    done = donjon.run("restore", f"latest:{source}", target / "a", code=12)
    assert victim.name in done.stderr.decode()
    kept_going = donjon.json("restore", f"latest:{source}", target / "b", "--keep-going", code=12)
    assert [row["path"] for row in kept_going["damage"]] == ["/new"]
    assert victim.name in kept_going["damage"][0]["reason"]
    assert _names(target / "b") == _names(source) - {"new"}
    report = donjon.json("verify", "--data", "100", code=12)
    assert any(victim.name in problem["object"] for problem in report["problems"])
    donjon.run("backup", source)  # stores again what the damaged pack held
    (target / "b").rename(target / "old")
    donjon.run("restore", f"latest:{source}", target / "b")
    assert compare_trees(os.fsencode(source), os.fsencode(target / "b")) == []
