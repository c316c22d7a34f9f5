"""Bad input and bad luck, as a user meets them: one clear error, the right exit code, nothing half done."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from donjon.testing.folders import remove_tree
from donjon.testing.trees import compare_trees
from tests.integration.cli import Donjon, end, end_well
from tests.integration.engine import fill

SOMEBODY = 12_345
#: Root without the right to pass over permissions, so that files of others are closed to it.
WEAK_ROOT = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner,-chown")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 60, 1)
    return folder


def _state(folder: Path) -> list[tuple[str, int, int]]:
    """All that is there, to see that nothing was written."""
    return sorted(
        (str(path), path.lstat().st_mtime_ns, path.lstat().st_size)
        for path in folder.rglob("*")
        if path.is_file() and "cache" not in path.parts
    )


def _assert_clear(errors: bytes, *wanted: str) -> None:
    """One line that names the thing and the cause, and one with the remedy."""
    lines = errors.decode().splitlines()
    assert len(lines) == 2, lines
    assert lines[0].startswith("donjon: ")
    assert lines[1].startswith("  ")
    for text in wanted:
        assert text in lines[0], lines[0]


def _commands(source: Path, target: Path) -> list[list[str | Path]]:
    return [["points"], ["verify"], ["backup", source], ["restore", "latest", target]]


# --- not a vault, a newer format, a wrong kit, a wrong passphrase -----------------------------------


@pytest.mark.parametrize("kind", ["missing folder", "empty folder", "folder with other things", "a file"])
def test_what_is_not_a_vault_ends_with_10(host: Donjon, source: Path, kind: str) -> None:
    place = host.folder / "place"
    if kind == "a file":
        place.write_bytes(b"x")
    elif kind != "missing folder":
        place.mkdir()
    if kind == "folder with other things":
        (place / "letter.txt").write_bytes(b"x")
    for command in _commands(source, host.folder / "target"):
        before = _state(host.folder)
        done = host.without_kit().run(*command, "--vault", place, code=10)
        _assert_clear(done.stderr, str(place))
        assert _state(host.folder) == before


def test_a_vault_of_a_newer_format_ends_with_1(donjon: Donjon, source: Path) -> None:
    donjon.run("backup", source)
    vault = donjon.vault / "vault"
    data = bytearray(vault.read_bytes())
    assert data[:4] == b"DNJN"
    assert data[5] == 1  # the version, after magic and kind: docs/format.md, "Signed objects"
    data[5] = 9
    vault.chmod(0o600)
    vault.write_bytes(data)
    before = _state(donjon.folder)
    for command in _commands(source, donjon.folder / "target"):
        done = donjon.run(*command, code=1)
        _assert_clear(done.stderr, "vault", "version 9")
    assert _state(donjon.folder) == before


def test_a_wrong_kit_ends_with_13(donjon: Donjon, source: Path, tmp_path: Path) -> None:
    donjon.run("backup", source)
    other = Donjon(tmp_path / "other")
    other.folder.mkdir()
    other.init()
    broken = tmp_path / "broken.kit"
    broken.write_text(donjon.kit.read_text()[:-200])
    noise = tmp_path / "noise.kit"
    noise.write_bytes(os.urandom(500))
    before = _state(donjon.folder)
    for kit in (other.kit, broken, noise, tmp_path / "no.kit", tmp_path):
        target = donjon.folder / "target"
        for command in (["points"], ["verify", "--data", "1"], ["restore", "latest", str(target)]):
            done = donjon.run(*command, "--kit", kit, code=13)
            _assert_clear(done.stderr, str(kit))
        assert not target.exists()
    assert _state(donjon.folder) == before


def test_a_wrong_passphrase_ends_with_13(host: Donjon, source: Path, tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("correct horse battery staple\n")
    wrong.write_text("incorrect horse\n")
    host.init("--passphrase-file", str(right))
    host.run("backup", source)
    before = _state(host.folder)
    done = host.run("points", "--passphrase-file", wrong, code=13)
    _assert_clear(done.stderr, "passphrase")
    done = host.run("points", code=13)
    _assert_clear(done.stderr, "passphrase")
    done = host.run("points", "--passphrase-file", tmp_path / "nowhere", code=13)
    _assert_clear(done.stderr, "nowhere")
    assert _state(host.folder) == before
    assert len(host.json("points", "--passphrase-file", right)["points"]) == 1


def test_without_any_key_what_needs_one_ends_with_13(donjon: Donjon, source: Path, tmp_path: Path) -> None:
    donjon.run("backup", source)
    for command in (
        ["ls", "latest"],
        ["restore", "latest", str(tmp_path / "t")],
        ["verify", "--data", "100"],
    ):
        done = donjon.without_kit().run(*command, code=13)
        _assert_clear(done.stderr, "no key")
    assert not (tmp_path / "t").exists()


# --- init where something is already ----------------------------------------------------------------


def test_init_never_overwrites(donjon: Donjon, tmp_path: Path) -> None:
    before = _state(donjon.folder)
    done = donjon.run("init", "--single-recipient", donjon.vault, "--kit", tmp_path / "second.kit", code=1)
    _assert_clear(done.stderr, str(donjon.vault), "vault already")
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter").write_bytes(b"x")
    done = donjon.run("init", "--single-recipient", full, "--kit", tmp_path / "second.kit", code=1)
    _assert_clear(done.stderr, str(full), "not empty")
    done = donjon.run("init", "--single-recipient", tmp_path / "new", "--kit", donjon.kit, code=1)
    _assert_clear(done.stderr, str(donjon.kit), "exists")
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "second.kit").exists()
    assert [path.name for path in full.iterdir()] == ["letter"]
    assert _state(donjon.folder) == before


# --- sources ----------------------------------------------------------------------------------------


def test_a_source_that_is_missing_ends_with_2_and_without_a_point(donjon: Donjon, source: Path) -> None:
    done = donjon.run("backup", source, source / "nowhere", code=2)
    _assert_clear(done.stderr, "nowhere")
    assert donjon.json("points")["points"] == []


def test_what_cannot_be_read_ends_with_3_and_is_listed_in_the_point(donjon: Donjon, source: Path) -> None:
    (source / "secret").write_bytes(b"of root")
    (source / "secret").chmod(0o600)
    (source / "closed").mkdir(mode=0o700)
    (source / "closed" / "inside").write_bytes(b"x")
    for path in (source / "secret", source / "closed"):
        os.chown(path, SOMEBODY, SOMEBODY)
    process = donjon.start("backup", source, "--workload", "w", through=WEAK_ROOT)
    output, errors = end_well(process)
    assert process.returncode == 3, (output, errors)
    points = donjon.json("points", "--problems")["points"]
    assert points[0]["errors"] == 2
    listed = {row["path"]: row["reason"] for row in points[0]["problems"]}
    assert listed == {f"{source}/secret": "Permission denied", f"{source}/closed": "Permission denied"}
    target = donjon.folder / "target"
    donjon.run("restore", f"latest:{source}", target)
    assert sorted(path.name for path in target.glob("d1/*")) == sorted(p.name for p in source.glob("d1/*"))


# --- the store fails --------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "donjon-test", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def test_a_full_disk_commits_no_point_and_the_next_run_goes_on(
    host: Donjon, tmp_path: Path, small_disk: Path
) -> None:
    source = tmp_path / "large"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(20_000_000))
    host.run("init", "--single-recipient", small_disk / "vault", "--kit", host.kit, "--lock", "none")
    done = host.run("backup", source, code=1)
    _assert_clear(done.stderr)
    assert host.json("points")["points"] == []
    subprocess.run(["mount", "-o", "remount,size=60m", small_disk], check=True)
    host.run("backup", source)
    host.run("restore", f"latest:{source}", tmp_path / "out")
    assert compare_trees(os.fsencode(source), os.fsencode(tmp_path / "out")) == []


def test_a_target_that_is_full_ends_with_1_and_goes_on_later(
    donjon: Donjon, tmp_path: Path, small_disk: Path
) -> None:
    source = tmp_path / "large"
    source.mkdir()
    for number in range(20):
        (source / f"f{number:02d}").write_bytes(os.urandom(1_000_000))
    donjon.run("backup", source)
    done = donjon.run("restore", f"latest:{source}", small_disk / "out", code=1)
    _assert_clear(done.stderr, "no room")
    subprocess.run(["mount", "-o", "remount,size=60m", small_disk], check=True)
    donjon.run("restore", f"latest:{source}", small_disk / "out")
    assert compare_trees(os.fsencode(source), os.fsencode(small_disk / "out")) == []


def test_a_store_that_goes_away_commits_nothing_and_the_next_run_goes_on(
    donjon: Donjon, source: Path
) -> None:
    donjon.run("backup", source, "--workload", "w")
    away = donjon.vault.with_name("away")
    donjon.vault.rename(away)
    done = donjon.run("backup", source, "--workload", "w", code=10)
    _assert_clear(done.stderr, str(donjon.vault))
    assert not donjon.vault.exists()
    away.rename(donjon.vault)
    donjon.run("backup", source, "--workload", "w")
    assert len(donjon.json("points")["points"]) == 2


def test_a_permission_lost_half_way_ends_with_11_and_the_next_run_goes_on(
    donjon: Donjon, tmp_path: Path
) -> None:
    """The folders of the vault are taken from the user who backs up while the backup waits for its input."""
    reader, writer = os.pipe()
    process = donjon.start("backup", "--stdin", "data", "--workload", "w", stream=reader, through=WEAK_ROOT)
    try:
        os.close(reader)
        os.write(writer, b"x" * 1000)
        for _ in range(300):
            if list(donjon.vault.glob("sessions/*/*")):
                break
            process.poll()
            assert process.returncode is None, process.communicate()
            time.sleep(0.02)
        for path in (donjon.vault, *(path for path in donjon.vault.rglob("*") if path.is_dir())):
            os.chown(path, SOMEBODY, SOMEBODY)
            path.chmod(0o755)
        os.close(writer)
        output, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            end(process)
    assert process.returncode == 11, (output, errors)
    _assert_clear(errors, "permission")
    assert donjon.json("points")["points"] == []
    donjon.run("backup", "--stdin", "data", "--workload", "w", input_bytes=b"x" * 1000)
    assert donjon.run("dump", "w@latest:/data").stdout == b"x" * 1000


# --- damaged objects --------------------------------------------------------------------------------


def _spoil(path: Path, how: str, others: list[Path]) -> bool:
    data = path.read_bytes()
    if how == "truncated":
        new = data[: len(data) // 2]
    elif how == "flipped":
        new = data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
    elif how == "empty":
        new = b""
    elif how == "huge":
        new = data + bytes(20_000_000)
    else:
        same = [other for other in others if other != path]
        if not same:
            return False
        new = same[0].read_bytes()
    path.chmod(0o600)
    path.write_bytes(new)
    return True


@pytest.mark.parametrize("how", ["truncated", "flipped", "swapped", "huge", "empty"])
@pytest.mark.parametrize("kind", ["vault", "keyring", "sessions", "packs", "index", "manifests"])
def test_a_damaged_object_is_named_and_never_gives_wrong_data(
    donjon: Donjon, source: Path, tmp_path: Path, kind: str, how: str
) -> None:
    donjon.run("backup", source, "--workload", "w")
    shutil.copytree(source, tmp_path / "then")
    (source / "later").write_bytes(os.urandom(30_000))
    donjon.run("backup", source, "--workload", "w")
    place = donjon.vault / kind
    objects = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    victim = objects[-1]
    if not _spoil(victim, how, objects):
        assert kind == "vault"  # there is one only
        return
    name = str(victim.relative_to(donjon.vault))
    shutil.rmtree(donjon.home / "cache")  # as on another machine
    report = donjon.run("verify", "--data", "100", code=12)
    assert name in report.stdout.decode() + report.stderr.decode()
    target = tmp_path / "out"
    # The index is read from the packs again, and the pack may be one that the point does not need.
    may_succeed = kind in ("index", "packs")
    process = donjon.start("restore", f"w@latest:{source}", target, "--keep-going")
    output, errors = end_well(process)
    assert process.returncode in ((0, 12) if may_succeed else (12,)), (output, errors)
    if process.returncode == 12:
        assert name in (output + errors).decode()
    else:
        assert compare_trees(os.fsencode(source), os.fsencode(target)) == []
    for path in target.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (source / path.relative_to(target)).read_bytes()


# --- at the same time -------------------------------------------------------------------------------


def test_two_backups_at_once_and_a_verify_meanwhile_are_all_correct(donjon: Donjon, source: Path) -> None:
    for _ in range(2):
        processes = [donjon.start("backup", source, "--workload", "w") for _ in range(2)]
        processes.append(donjon.start("verify", "--data", "100"))
        try:
            for process in processes:
                output, errors = process.communicate(timeout=120)
                assert process.returncode == 0, (output, errors)
        finally:
            for process in processes:
                if process.poll() is None:
                    end(process)
    points = donjon.json("points")["points"]
    assert len(points) == 4
    for point in points:
        target = donjon.folder / "out"
        donjon.run("restore", f"{point['id']}:{source}", target)
        assert compare_trees(os.fsencode(source), os.fsencode(target)) == []
        remove_tree(target)
    assert donjon.json("verify", "--data", "100")["ok"]
