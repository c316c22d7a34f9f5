"""Who can open the vault and who can write to it, decided with the real command on several hosts."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from donjon.testing.folders import remove_tree
from donjon.testing.trees import compare_trees
from tests.integration.cli import Donjon
from tests.integration.engine import fill


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 30, 3)
    return folder


@pytest.fixture
def phrase(tmp_path: Path) -> Path:
    """A file with a passphrase."""
    file = tmp_path / "phrase"
    file.write_text("nine lives and a locked gate\n")
    return file


def _keys(donjon: Donjon) -> dict[str | None, dict[str, Any]]:
    return {key["name"]: key for key in donjon.json("keys", "list")["keys"]}


def _with(kit: Path) -> dict[str, str]:
    return {"DONJON_KIT": str(kit)}


def _other_host(donjon: Donjon, folder: Path) -> Donjon:
    """A host that has nothing but the address of the vault."""
    folder.mkdir()
    return Donjon(folder, has_kit=False)


# --- init -------------------------------------------------------------------------------------------


def test_init_asks_nothing_and_tells_what_it_made(host: Donjon) -> None:
    made = host.init("--name", "keep", lock="12d")
    assert (made["name"], made["lock_s"], made["writer"]) == ("keep", 12 * 86_400, True)
    assert made["kit"] == str(host.kit)
    assert stat.S_IMODE(host.kit.stat().st_mode) == 0o600
    assert host.json("points", "--vault", "keep")["points"] == []
    remove_tree(host.vault)


def test_a_host_without_a_writer_reads_but_cannot_back_up(host: Donjon, source: Path) -> None:
    host.init("--no-writer")
    assert host.json("writer", "list") == {"writers": []}
    error = host.run("backup", source, code=13).stderr.decode()
    assert "donjon writer add" in error
    assert host.json("points")["points"] == []


@pytest.mark.parametrize(
    "options",
    [("--lock", "soon"), ("--lock", "-3d"), ("--passphrase-file", "/nonexistent/file"), ("--name", "a/b")],
)
def test_init_with_senseless_options_makes_nothing(host: Donjon, options: tuple[str, ...]) -> None:
    done = host.run(
        "init",
        "--single-recipient",
        host.vault,
        "--kit",
        host.kit,
        *options,
        code=13 if "file" in options[0] else 2,
    )
    assert options[1] in done.stderr.decode()
    assert not host.kit.exists()
    assert not host.vault.exists()


# --- keys -------------------------------------------------------------------------------------------


def test_a_second_kit_opens_what_was_there_and_what_comes(
    donjon: Donjon, source: Path, tmp_path: Path
) -> None:
    donjon.run("backup", source)
    second = tmp_path / "second.kit"
    added = donjon.json("keys", "add", "kit", "--name", "safe", "--out", second)
    assert (added["kind"], added["name"], added["root"]) == ("kit", "safe", False)
    assert (added["sessions"], added["sealed"], added["failed"]) == (1, 1, [])
    assert stat.S_IMODE(second.stat().st_mode) == 0o600
    donjon.without_kit().run("backup", source)
    for point in donjon.json("points")["points"]:
        target = tmp_path / point["id"]
        donjon.run("restore", f"{point['id']}:{source}", target, environment=_with(second))
        assert compare_trees(os.fsencode(source), os.fsencode(target)) == []
    checked = donjon.json("keys", "check", "--kit", second)
    assert (checked["ok"], checked["sessions"], checked["sealed_to"]) == (True, 2, 3)
    assert (checked["warnings"], checked["unopened"], checked["damaged"]) == ([], [], [])


def test_a_kit_without_the_root_key_decides_nothing(donjon: Donjon, phrase: Path, tmp_path: Path) -> None:
    second, board = tmp_path / "second.kit", tmp_path / "board.kit"
    donjon.run("keys", "add", "kit", "--name", "safe", "--out", second)
    before = _keys(donjon)
    for command in (
        ["keys", "add", "kit", "--name", "x", "--out", str(board)],
        ["keys", "add", "passphrase", "--name", "x", "--new-passphrase-file", str(phrase)],
        ["keys", "revoke", "safe"],
        ["writer", "add", "web1", "--out", str(tmp_path / "w")],
    ):
        error = donjon.run(*command, code=13, environment=_with(second)).stderr.decode()
        assert "root key" in error
    assert _keys(donjon) == before
    assert not board.exists()
    assert not (tmp_path / "w").exists()
    donjon.run("keys", "add", "kit", "--name", "board", "--out", board, "--with-root")
    donjon.run("keys", "revoke", "safe", environment=_with(board))
    assert "safe" not in _keys(donjon)


def test_a_passphrase_opens_without_any_kit(
    donjon: Donjon, source: Path, phrase: Path, tmp_path: Path
) -> None:
    donjon.run("backup", source)
    added = donjon.json("keys", "add", "passphrase", "--name", "office", "--new-passphrase-file", phrase)
    assert (added["kind"], added["name"], added["sealed"]) == ("passphrase", "office", 1)
    alone = _other_host(donjon, tmp_path / "elsewhere")
    alone.run(
        "restore", f"latest:{source}", tmp_path / "back", "--vault", donjon.vault, "--passphrase-file", phrase
    )
    assert compare_trees(os.fsencode(source), os.fsencode(tmp_path / "back")) == []
    wrong = tmp_path / "wrong"
    wrong.write_text("nine lives and an open gate")
    alone.run("points", "--vault", donjon.vault, "--passphrase-file", wrong, code=13)


def test_a_removed_key_is_refused(donjon: Donjon, source: Path, phrase: Path, tmp_path: Path) -> None:
    old = donjon.json("backup", source)["point"]
    donjon.run("keys", "add", "passphrase", "--name", "office", "--new-passphrase-file", phrase)
    gone = donjon.json("keys", "revoke", "office")
    assert gone["name"] == "office"
    told = gone["still_opens"]
    assert (told["sessions"], told["of"], told["points"], told["unknown"]) == (1, 1, 1, 0)
    assert told["first"] == told["last"] == donjon.json("points")["points"][0]["time"]
    assert set(_keys(donjon)) == {"recovery kit", "second kit"}
    new = donjon.json("backup", source, "--read-all")["point"]
    office = donjon.without_kit()
    for point in (old, new):
        office.run("ls", point, "--passphrase-file", phrase, code=13)


def test_the_last_two_keys_and_the_own_key_stay(donjon: Donjon, tmp_path: Path) -> None:
    error = donjon.run("keys", "revoke", "recovery kit", code=1).stderr.decode()
    assert "kit in use" in error
    error = donjon.run("keys", "revoke", "second kit", code=1).stderr.decode()
    assert "one of two keys" in error
    assert "--single-recipient" in error
    done = donjon.run("keys", "revoke", "second kit", "--single-recipient")
    assert "one key alone" in done.stderr.decode()
    options = ("--force", "--single-recipient")
    error = donjon.run("keys", "revoke", "recovery kit", *options, code=1).stderr.decode()
    assert "last key" in error
    donjon.run("keys", "revoke", "nobody", code=2)
    donjon.run("keys", "add", "kit", "--name", "second", "--out", donjon.kit, code=1)
    donjon.run("keys", "add", "kit", "--name", "recovery kit", "--out", tmp_path / "k", code=1)
    assert not (tmp_path / "k").exists()
    assert set(_keys(donjon)) == {"recovery kit"}


def test_names_of_keys_and_writers_are_hidden_from_those_without_a_key(donjon: Donjon) -> None:
    bare = donjon.without_kit()
    kit, writer = bare.json("keys", "list")["keys"][0], bare.json("writer", "list")["writers"][0]
    assert kit["name"] == "recovery kit"  # the credential of this host tells
    shutil.rmtree(donjon.home / "writers")
    kit, writer = bare.json("keys", "list")["keys"][0], bare.json("writer", "list")["writers"][0]
    assert (kit["name"], writer["name"]) == (None, None)
    assert "(name hidden)" in bare.text("keys", "list")
    assert donjon.json("writer", "list")["writers"][0]["name"] == os.uname().nodename


def test_check_tells_of_seals_that_lack(donjon: Donjon, source: Path, phrase: Path) -> None:
    donjon.run("backup", source)
    assert donjon.json("keys", "check")["warnings"] == []
    donjon.run("keys", "add", "passphrase", "--name", "office", "--new-passphrase-file", phrase)
    # What an addition that was cut off leaves behind: the recipient is there, its seals are not.
    seals = [path for path in (donjon.vault / "seals").rglob("*") if path.is_file()]
    assert seals
    for seal in seals:
        seal.unlink()
    checked = donjon.json("keys", "check")
    assert {key["name"]: len(key["missing"]) for key in checked["keys"]} == {
        "recovery kit": 0, "second kit": 0, "office": 1
    }  # fmt: skip
    assert "reseal" in checked["warnings"][0]
    for office in (donjon, donjon.without_kit()):
        missing = office.json("keys", "check", "--passphrase-file", phrase, code=13)
        assert not missing["ok"]
        assert len(missing["unopened"]) == 1
    assert donjon.json("keys", "reseal") == {"sessions": 1, "sealed": 1, "failed": []}
    assert donjon.without_kit().json("keys", "check", "--passphrase-file", phrase)["ok"]


def test_a_kit_is_printed_and_typed_in_again(donjon: Donjon, tmp_path: Path) -> None:
    printed = donjon.json("keys", "print")
    typed = tmp_path / "typed.kit"
    typed.write_text(printed["text"])
    assert donjon.json("keys", "check", "--kit", typed)["ok"]
    page = tmp_path / "kit.html"
    donjon.run("keys", "print", "--html", page)
    assert "<svg" in page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    donjon.run("keys", "print", "--html", page, code=1)  # never overwrites


# --- writers ----------------------------------------------------------------------------------------


def test_another_host_backs_up_with_what_the_first_made_for_it(
    donjon: Donjon, source: Path, tmp_path: Path
) -> None:
    donjon.run("backup", source, "--workload", "first")
    credential = tmp_path / "web1.writer"
    added = donjon.json("writer", "add", "web1", "--out", credential)
    assert (added["name"], added["credential"]) == ("web1", str(credential))
    assert stat.S_IMODE(credential.stat().st_mode) == 0o600
    web1 = _other_host(donjon, tmp_path / "web1")
    web1.run("backup", source, code=2)
    assert web1.json("enrol", credential)["url"] == added["url"]
    point = web1.json("backup", source, "--workload", "second")["point"]
    for command in (["ls", point], ["restore", point, str(tmp_path / "stolen")], ["verify", "--data", "100"]):
        web1.run(*command, code=13)
    assert {p["workload"] for p in donjon.json("points")["points"]} == {"first", "second"}
    donjon.run("restore", f"second@latest:{source}", tmp_path / "back")
    assert compare_trees(os.fsencode(source), os.fsencode(tmp_path / "back")) == []


def test_a_revoked_writer_is_refused_and_its_points_stay(
    donjon: Donjon, source: Path, tmp_path: Path
) -> None:
    credential = tmp_path / "web1.writer"
    donjon.run("writer", "add", "web1", "--out", credential)
    web1 = _other_host(donjon, tmp_path / "web1")
    web1.run("enrol", credential)
    web1.run("backup", source, "--workload", "w")
    assert donjon.json("writer", "revoke", "web1")["revoked"]
    error = web1.run("backup", source, code=11).stderr.decode()
    assert "revoked" in error
    donjon.run("writer", "revoke", "web1", code=2)
    states = {writer["name"]: writer["revoked"] for writer in donjon.json("writer", "list")["writers"]}
    assert states.pop("web1")
    assert list(states.values()) == [None]
    assert [point["workload"] for point in donjon.json("points")["points"]] == ["w"]
    donjon.run("restore", f"latest:{source}", tmp_path / "back")
    assert compare_trees(os.fsencode(source), os.fsencode(tmp_path / "back")) == []


def test_a_credential_that_is_none_installs_nothing(donjon: Donjon, tmp_path: Path) -> None:
    credential = tmp_path / "web1.writer"
    donjon.run("writer", "add", "web1", "--out", credential)
    donjon.run("writer", "add", "web1", "--out", tmp_path / "again", code=1)  # the name is taken
    donjon.run("writer", "add", "web2", "--out", credential, code=1)  # never overwrites
    web1 = _other_host(donjon, tmp_path / "web1")
    for content in (b"", b"\xff\x00", credential.read_bytes()[:-20], donjon.kit.read_bytes()):
        bad = tmp_path / "bad"
        bad.write_bytes(content)
        assert str(bad) in web1.run("enrol", bad, code=13).stderr.decode()
    web1.run("enrol", tmp_path / "nowhere", code=13)
    assert not web1.home.exists() or not any(path.is_file() for path in web1.home.rglob("*"))
    web1.run("enrol", credential)
    web1.run("enrol", credential, code=1)
