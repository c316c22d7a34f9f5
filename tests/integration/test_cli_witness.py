"""Checkpoints as an operator uses them: sign, publish, and find out what a store hides."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from tests.integration.cli import Donjon
from tests.integration.engine import fill


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 8, 3)
    return folder


@pytest.fixture
def credential(host: Donjon) -> Path:
    host.init()
    file = host.folder / "safe.custodian"
    host.json("custodian", "add", "safe", "--out", file)
    return file


def _back_up(host: Donjon, source: Path, times: int) -> list[str]:
    for number in range(times):
        (source / "when").write_text(str(number))
        host.json("backup", source)
    return [point["id"] for point in host.json("points")["points"]]


def _newest(host: Donjon) -> Path:
    return max((host.vault / "manifests").rglob("0*"))


def test_a_custodian_signs_without_any_key_and_finds_what_is_hidden(
    host: Donjon, source: Path, credential: Path, tmp_path: Path
) -> None:
    assert stat.S_IMODE(credential.stat().st_mode) == 0o600
    assert 'vault_secret": ""' in credential.read_text()
    ids = _back_up(host, source, 3)
    watcher = Donjon(tmp_path / "watcher", has_kit=False)
    watcher.folder.mkdir()
    carried, folder = tmp_path / "carried", tmp_path / "witness"
    folder.mkdir()
    made = watcher.json("custody", "checkpoint", "--credential", credential, "--to", carried, "--to", folder)
    assert (made["number"], made["points"], made["writers"], len(made["places"])) == (1, 3, 1, 3)
    places = ("--witness", carried, "--witness", folder)
    assert host.json("verify", *places)["ok"]

    stranger = Donjon(tmp_path / "stranger", has_kit=False)
    stranger.folder.mkdir()
    hidden = _newest(host)
    hidden.rename(tmp_path / "hidden")
    there = ("verify", "--vault", host.vault)
    shutil.rmtree(host.vault / "checkpoints")
    assert stranger.json(*there)["ok"]  # it never saw more
    found = stranger.json(*there, *places, code=12)["problems"]
    assert ("rolled back", [ids[-1]]) in [(row["kind"], row["affects"]) for row in found]
    text = stranger.text(*there, *places, code=12)
    assert ids[-1][:12] in text


def test_a_client_remembers_the_points_that_it_saw(host: Donjon, source: Path, credential: Path) -> None:
    ids = _back_up(host, source, 2)
    hidden = _newest(host)
    hidden.rename(host.folder / "hidden")
    warning = b"donjon: warning: manifests/"
    assert warning in host.run("points", code=12).stderr
    assert warning in host.run("keys", "list").stderr
    assert "is not shown" in host.run("restore", "latest", host.folder / "out", code=12).stderr.decode()
    host.run("restore", ids[0], host.folder / "out")  # by its id there is no doubt about what is meant
    problems = host.json("verify", code=12)["problems"]
    assert [row["kind"] for row in problems] == ["rolled back"]
    (host.folder / "hidden").rename(hidden)
    assert host.json("verify")["ok"]
    assert b"warning" not in host.run("points").stderr


def test_what_was_removed_on_purpose_is_no_alarm_once_the_custodian_says_so(
    host: Donjon, source: Path, credential: Path
) -> None:
    sign = ("custody", "checkpoint", "--credential", credential)
    ids = _back_up(host, source, 2)
    host.json(*sign)
    _newest(host).unlink()
    assert ids[-1][:12] in host.run(*sign, code=12).stderr.decode()
    made = host.json(*sign, "--accept-removed")
    assert (made["number"], made["points"], made["removed"]) == (2, 1, [ids[-1]])
    assert host.json("verify")["ok"]
    assert b"warning" not in host.run("points").stderr


def test_another_vault_can_be_the_witness(
    host: Donjon, source: Path, credential: Path, tmp_path: Path
) -> None:
    _back_up(host, source, 1)
    other = Donjon(tmp_path / "other")
    other.folder.mkdir()
    other.init()
    sign = ("custody", "checkpoint", "--credential", credential, "--to", other.vault)
    host.json(*sign)
    host.json(*sign)
    assert len(list((other.vault / "witness").glob("*/*"))) == 2
    assert host.json("verify", "--witness", other.vault)["ok"]
    assert other.json("verify")["ok"]


def test_bad_input(host: Donjon, source: Path, credential: Path, tmp_path: Path) -> None:
    sign = ("custody", "checkpoint")
    assert b"DONJON_CUSTODIAN" in host.run(*sign, code=2).stderr
    assert b"custodian add" in host.run(*sign, "--credential", tmp_path / "none", code=13).stderr
    assert b"no custodian credential" in host.run(*sign, "--credential", host.kit, code=13).stderr
    taken = tmp_path / "taken"
    taken.touch()
    host.run(*sign, "--credential", credential, "--to", taken, code=2)
    assert not (host.vault / "checkpoints").exists()
    assert b"cannot be read" in host.run("verify", "--witness", tmp_path / "none", code=2).stderr
    (missing,) = host.json("verify", "--witness", tmp_path, code=12)["problems"]
    assert missing["kind"] == "missing"
    kinds = [row["kind"] for row in host.json("verify", "--witness", taken, code=12)["problems"]]
    assert kinds == ["damaged", "missing"]


def test_a_revoked_custodian_signs_no_more(host: Donjon, credential: Path) -> None:
    sign = ("custody", "checkpoint", "--credential", credential)
    host.json(*sign)
    assert [row["name"] for row in host.json("custodian", "list")["custodians"]] == ["safe"]
    host.run("custodian", "add", "safe", "--out", host.folder / "two", code=1)
    assert host.json("custodian", "revoke", "safe")["revoked"]
    assert b"does not accept" in host.run(*sign, code=13).stderr
    assert host.json("verify")["ok"]
