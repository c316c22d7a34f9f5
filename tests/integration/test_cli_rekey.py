"""`donjon writer rekey` as people use it: a host that was broken into gets a new key from its approvers."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli import Donjon


class Office:
    """A host, its vault with two of three approvers, and their keys elsewhere."""

    def __init__(self, host: Donjon, desk: Path) -> None:
        self.host, self.desk = host, desk
        named: list[str] = []
        for name in ("ann", "bo", "cy"):
            host.run("approver", "new", name, "--out", self.key(name))
            named += ["--approver", f"{self.key(name)}.pub"]
        host.init(*named, "--approvals", "2")
        self.name = host.json("writer", "list")["writers"][0]["name"]

    def key(self, name: str) -> Path:
        return self.desk / f"{name}.approver"

    def backup(self, text: str) -> str:
        (self.host.folder / "source").mkdir(exist_ok=True)
        (self.host.folder / "source/file").write_text(text)
        return str(self.host.json("backup", self.host.folder / "source")["point"])

    def rekey(self, last: str, file: str = "new.writer", *options: str | Path) -> dict[str, Any]:
        command = ("writer", "rekey", self.name, "--last", last, "--out", self.desk / file)
        return self.host.json(*command, *options, code=11)

    def sign(self, request: str | Path, *who: str) -> str:
        which = ("--file", request) if isinstance(request, Path) else (request,)
        there = ("--vault", self.host.vault, "--yes")
        shown = b""
        for name in who:
            done = self.host.without_kit().run("approve", "sign", *which, "--key", self.key(name), *there)
            shown += done.stdout + done.stderr
        return shown.decode()

    def apply(self, request: str, file: str = "new.writer", code: int = 0) -> str:
        command = ("approve", "apply", request, "--credential", self.desk / file)
        done = self.host.without_kit().run(*command, code=code)
        return (done.stdout + done.stderr).decode()


@pytest.fixture
def office(host: Donjon, tmp_path: Path) -> Office:
    (tmp_path / "desk").mkdir()
    return Office(host, tmp_path / "desk")


def test_a_host_that_was_broken_into_goes_on_with_a_new_key(office: Office) -> None:
    host, good, bad = office.host, office.backup("good"), office.backup("bad")
    asked = office.rekey(good[:12])
    assert (asked["operation"], asked["state"]) == ("name writer key", "open")
    assert (asked["last_point"]["id"], asked["writer"]["key"]) == (good, 1)
    file = Path(asked["credential"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert asked["writer"]["key_id"] in office.sign(asked["id"], "ann")
    assert "1 of the 2" in office.apply(asked["id"], code=11)
    assert "not yet" in host.run("enrol", file, code=13).stderr.decode()
    office.sign(asked["id"], "cy")
    host.run("approve", "apply", asked["id"], code=2)  # which file?
    assert "Done" in office.apply(asked["id"])
    assert "Was done before" in office.apply(asked["id"])
    assert host.json("approve", "show", asked["id"])["state"] == "done"
    refused = host.run("backup", host.folder / "source", code=11).stderr.decode()
    assert "donjon enrol" in refused
    host.run("enrol", file)
    (kept,) = (path for path in (host.home / "writers").iterdir())
    assert json.loads(kept.read_text())["key_number"] == 1
    later = office.backup("later")
    found = host.json("verify", code=12)["problems"]
    assert [(one["kind"], one["object"][-8:]) for one in found] == [("suspicious", "00000002")]
    assert {point["id"] for point in host.json("points")["points"]} == {good, bad, later}
    (listed,) = host.json("writer", "list")["writers"]
    assert listed["key"] == 1
    host.run("enrol", file, code=1)  # it is installed
    assert host.json("credentials", "rotate", "writer")["new"].endswith("/2")


def test_a_lost_disk_an_approver_who_asks_and_files_that_go_round(office: Office, tmp_path: Path) -> None:
    office.backup("one")
    host, request = office.host, tmp_path / "request.json"
    asked = office.rekey("latest", "new.writer", "--file", request, "--key", office.key("bo"))
    assert asked["asked_by"].startswith("the approver bo")
    assert office.sign(request, "ann", "bo")
    host.run("approve", "apply", "--file", request, "--credential", office.desk / "new.writer")
    for path in (host.home / "writers").iterdir():
        path.unlink()  # the disk
    host.run("enrol", office.desk / "new.writer")
    office.backup("two")
    assert host.json("verify", "--data", "100")["ok"]


def test_what_cannot_be_asked_leaves_nothing_behind(office: Office) -> None:
    host, out = office.host, office.desk / "new.writer"
    office.backup("one")
    for last, who, code in (("ffff", office.name, 1), ("latest", "nobody", 2), ("x", office.name, 1)):
        host.run("writer", "rekey", who, "--last", last, "--out", out, code=code)
        assert not out.exists()
    out.write_text("mine")
    host.run("writer", "rekey", office.name, "--last", "latest", "--out", out, code=1)
    assert out.read_text() == "mine"
    out.unlink()
    nobody = Donjon(host.folder / "elsewhere", has_kit=False)
    nobody.folder.mkdir()
    command = ("writer", "rekey", office.name, "--last", "latest", "--out", out, "--vault", host.vault)
    nobody.run(*command, "--key", office.key("ann"), code=2)  # names are hidden from who has no key
    assert not out.exists()
    host.run("writer", "revoke", office.name)
    host.run("writer", "rekey", office.name, "--last", "latest", "--out", out, code=2)
    assert not out.exists()


def test_a_vault_without_approvers_points_to_the_root_key(donjon: Donjon, tmp_path: Path) -> None:
    name = donjon.json("writer", "list")["writers"][0]["name"]
    command = ("writer", "rekey", name, "--last", "none", "--out", tmp_path / "new.writer")
    assert b"without approvers" in donjon.run(*command, code=1).stderr
    assert not (tmp_path / "new.writer").exists()
