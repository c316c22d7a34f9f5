"""Two keys from the first day, and what becomes of them, with the real command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from donjon.testing.trees import compare_trees
from tests.integration.cli import Donjon
from tests.integration.engine import fill


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 10, 3)
    return folder


@pytest.fixture
def phrase(tmp_path: Path) -> Path:
    """A file with a passphrase."""
    file = tmp_path / "phrase"
    file.write_text("nine lives and a locked gate\n")
    return file


def _keys(checked: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {key["name"]: key for key in checked["keys"]}


# --- Two recipients ---------------------------------------------------------------------------------


def test_init_with_one_key_is_refused_and_makes_nothing(host: Donjon) -> None:
    init = ("init", host.vault, "--kit", host.kit, "--lock", "none")
    error = host.run(*init, code=2).stderr.decode()
    for way in ("--second-kit", "--key", "--vault-passphrase-file", "--single-recipient"):
        assert way in error
    host.run(*init, "--second-kit", host.kit, code=2)
    assert not host.kit.exists()
    assert not host.vault.exists()


def test_a_single_key_is_told_of_again_and_again(host: Donjon, source: Path) -> None:
    init = ("init", host.vault, "--kit", host.kit, "--lock", "none", "--single-recipient")
    assert b"one key alone" in host.run(*init).stderr
    host.run("backup", source)
    for command in (("verify",), ("stats",), ("keys", "list"), ("keys", "check")):
        assert b"one key alone" in host.run(*command).stderr, command
        assert "one key alone" in host.json(*command)["warnings"][0], command
    host.run("keys", "add", "kit", "--name", "second", "--out", host.second_kit)
    for command in (("verify",), ("stats",), ("keys", "list"), ("keys", "check")):
        assert host.run(*command).stderr == b"", command
        assert host.json(*command)["warnings"] == [], command


def test_two_kits_are_independent(host: Donjon, source: Path, phrase: Path, tmp_path: Path) -> None:
    made = host.init("--passphrase-file", str(phrase))
    assert made["recipients"] == 2
    assert made["second_kit"] == str(host.second_kit)
    assert made["second_fingerprint"] in host.second_kit.read_text()
    assert "root key" not in host.second_kit.read_text().partition("-----BEGIN")[0].split("Holds:")[1][:60]
    host.without_kit().run("backup", source)
    host.kit.unlink()  # and its passphrase is forgotten
    second = {"DONJON_KIT": str(host.second_kit)}
    host.run("restore", f"latest:{source}", tmp_path / "back", environment=second)
    assert compare_trees(os.fsencode(source), os.fsencode(tmp_path / "back")) == []
    host.run("keys", "revoke", "recovery kit", "--single-recipient", environment=second, code=13)


def test_a_passphrase_can_be_the_second_key(host: Donjon, source: Path, phrase: Path, tmp_path: Path) -> None:
    init = ("init", host.vault, "--kit", host.kit, "--lock", "none", "--vault-passphrase-file", phrase)
    error = host.run(*init, "--passphrase-file", phrase, code=2).stderr.decode()
    assert "both are closed" in error
    assert host.json(*init)["recipients"] == 2
    host.without_kit().run("backup", source)
    bare = host.without_kit()
    bare.run("restore", f"latest:{source}", tmp_path / "back", "--passphrase-file", phrase)
    assert compare_trees(os.fsencode(source), os.fsencode(tmp_path / "back")) == []


def test_a_failed_init_leaves_no_kit(host: Donjon) -> None:
    host.vault.mkdir()
    (host.vault / "something").touch()
    kits = ("--kit", host.kit, "--second-kit", host.second_kit)
    host.run("init", host.vault, *kits, "--lock", "none", code=1)
    host.second_kit.write_text("precious")
    host.run("init", host.folder / "other", *kits, "--lock", "none", code=1)
    assert not host.kit.exists()
    assert host.second_kit.read_text() == "precious"


def test_sessions_of_one_key_alone_are_told_by_verify(donjon: Donjon, source: Path, tmp_path: Path) -> None:
    third = tmp_path / "third.kit"
    donjon.run("keys", "revoke", "second kit", "--single-recipient")
    donjon.run("backup", source)
    donjon.run("keys", "add", "kit", "--name", "third", "--out", third)
    for seal in [path for path in (donjon.vault / "seals").rglob("*") if path.is_file()]:
        seal.unlink()  # as if adding the key had been cut off
    found = donjon.json("verify")
    assert (found["ok"], found["recipients"]) == (True, 2)
    assert "1 sessions are sealed to one key alone" in found["warnings"][0]
    donjon.run("keys", "reseal")
    assert donjon.json("verify")["warnings"] == []


# --- Rotating ---------------------------------------------------------------------------------------


def test_a_kit_is_rotated(donjon: Donjon, source: Path, tmp_path: Path) -> None:
    old = donjon.json("backup", source)["point"]
    new_kit, second = tmp_path / "new.kit", {"DONJON_KIT": str(donjon.second_kit)}
    rotate = ("keys", "rotate", "second kit", "--out", new_kit, "--revoke-old")
    done = donjon.json(*rotate)
    assert (done["name"], done["kind"], done["sealed"], done["revoked"]) == ("second kit 2", "kit", 1, True)
    assert done["still_opens"]["points"] == 1
    new = donjon.json("backup", source, "--read-all")["point"]
    for point in (old, new):
        donjon.run("ls", point, environment={"DONJON_KIT": str(new_kit)})
        donjon.run("ls", point, environment=second, code=13)
    again = donjon.json(*rotate)  # nothing is left to do
    assert (again["id"], again["sealed"], again["old"], again["revoked"]) == (done["id"], 0, None, True)


def test_a_passphrase_is_rotated(donjon: Donjon, source: Path, phrase: Path, tmp_path: Path) -> None:
    donjon.run("backup", source)
    donjon.run("keys", "add", "passphrase", "--name", "office", "--new-passphrase-file", phrase)
    other = tmp_path / "other"
    other.write_text("ten lives and a locked gate\n")
    bare = donjon.without_kit()
    done = donjon.text("keys", "rotate", "office", "--new-passphrase-file", other)
    assert "office opens new backups too" in done
    for file in (phrase, other):
        bare.run("points", "--passphrase-file", file)
    told = donjon.text("keys", "rotate", "office", "--new-passphrase-file", other, "--revoke-old")
    assert "can still open 1 of 1 sessions, 1 points from" in told
    bare.run("points", "--passphrase-file", phrase, code=13)
    bare.run("points", "--passphrase-file", other)


# --- Checking ---------------------------------------------------------------------------------------


def test_check_tries_every_key_that_is_given(donjon: Donjon, source: Path, phrase: Path) -> None:
    for _ in range(3):
        donjon.run("backup", source, "--read-all")
    donjon.run("keys", "add", "passphrase", "--name", "office", "--new-passphrase-file", phrase)
    found = _keys(donjon.json("keys", "check"))
    assert (found["recovery kit"]["tried"], found["recovery kit"]["opened"]) == (3, 3)
    assert (found["second kit"]["sealed"], found["second kit"]["tried"]) == (3, 0)
    assert "kit was not given" in found["second kit"]["not_tried"]
    assert "passphrase was not given" in found["office"]["not_tried"]
    kits = ("--kit", donjon.kit, "--kit", donjon.second_kit)
    found = _keys(donjon.json("keys", "check", *kits, "--passphrase-file", phrase, "--sample", "2"))
    assert {(key["sealed"], key["tried"], key["opened"]) for key in found.values()} == {(3, 2, 2)}
    text = donjon.text("keys", "check", *kits)
    assert "opened 3 of 3 tried" in text
    assert "not tried: its passphrase was not given" in text
