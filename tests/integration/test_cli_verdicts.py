"""Suspect points with the real command: marked, refused, allowed by approvers, and lifted again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from donjon.testing.folders import remove_tree
from tests.integration.cli import Donjon

NAMES = ("ann", "bo", "cy")


class Bench:
    """A host with a vault, an auditor elsewhere, and two points of one workload."""

    def __init__(self, host: Donjon, desk: Path, *, approvers: bool, lock: str = "none") -> None:
        self.host, self.desk, self.source = host, desk, host.folder / "source"
        desk.mkdir()
        self.source.mkdir()
        options: list[str] = []
        for name in NAMES if approvers else ():
            host.run("approver", "new", name, "--out", desk / name)
            options += ["--approver", f"{desk / name}.pub"]
        host.init(*options, *(("--approvals", "2") if approvers else ()), lock=lock)
        host.run("auditor", "add", "eve", "--out", self.auditor)
        self.first, self.second = self.backup("one"), self.backup("two")

    @property
    def auditor(self) -> Path:
        return self.desk / "eve.auditor"

    def backup(self, text: str) -> str:
        (self.source / "file").write_text(text)
        point = self.host.json("backup", self.source, "--workload", "web")["point"]
        assert isinstance(point, str)
        return point

    def mark(self, *points: str) -> str:
        """Mark points; the id of the verdict."""
        done = self.host.json("verdict", "suspect", *points, "--sign", self.auditor)
        assert done["points"] == list(points)
        assert isinstance(done["verdict"], str)
        return done["verdict"]

    def suspects(self, host: Donjon | None = None) -> set[str]:
        return {row["id"] for row in (host or self.host).json("points")["points"] if row["suspect"]}

    def restore(self, point: str, *options: str | Path, code: int = 0, host: Donjon | None = None) -> str:
        """Restore to a new folder; what it says, and on success nothing else than the content."""
        place = self.desk / f"restored-{len(list(self.desk.iterdir()))}"
        done = (host or self.host).run("restore", f"{point}:{self.source}", place, *options, code=code)
        assert place.exists() is (code == 0)
        if code == 0:
            return (place / "file").read_text()
        return done.stderr.decode()

    def ask(self, point: str, *options: str | Path) -> str:
        asked = self.host.json("verdict", "request", point, *options)["id"]
        assert isinstance(asked, str)
        return asked

    def sign(self, request: str | Path, name: str, code: int = 0) -> None:
        """The approver has no key of the vault."""
        which = ("--file", request) if isinstance(request, Path) else (request,)
        there = ("--vault", self.host.vault, "--key", self.desk / name, "--yes")
        self.host.without_kit().run("approve", "sign", *which, *there, code=code)


@pytest.fixture
def bench(host: Donjon, tmp_path: Path) -> Bench:
    return Bench(host, tmp_path / "desk", approvers=False)


@pytest.fixture
def council(host: Donjon, tmp_path: Path) -> Bench:
    return Bench(host, tmp_path / "desk", approvers=True)


def test_a_suspect_point_is_shown_and_refused_until_it_is_clean_again(bench: Bench) -> None:
    verdict = bench.mark(bench.second)
    assert bench.suspects() == {bench.second}
    lines = bench.host.text("points").splitlines()
    assert [line.endswith("SUSPECT") for line in lines] == [False, False, True]
    refused = bench.restore("web@latest", code=1)
    assert f"point {bench.second[:12]} of web is suspect; the auditor eve" in refused
    assert f"not marked is {bench.first[:12]}" in refused
    assert "--although-suspect" in refused
    assert bench.restore(bench.first) == "one"
    assert bench.restore("web@latest", "--although-suspect") == "two"
    (mark,) = bench.host.json("verdict", "list")["marks"]
    assert (mark["point"], mark["state"], mark["verdict"]) == (bench.second, "stands", verdict)
    bench.host.json("verdict", "clean", bench.second, "--sign", bench.auditor)
    assert bench.suspects() == set()
    assert bench.restore("web@latest") == "two"
    (mark,) = bench.host.json("verdict", "list")["marks"]
    assert (mark["state"], mark["shown"]) == ("lifted", True)
    assert "lifted" in bench.host.text("verdict", "list")
    bench.mark(bench.second)
    assert bench.suspects() == {bench.second}
    assert bench.host.json("verify")["ok"]


def test_all_that_gives_out_contents_is_refused_and_looking_stays_free(bench: Bench) -> None:
    bench.mark(bench.second)
    file, place = f"{bench.second}:{bench.source}/file", bench.desk / "place"
    giving: list[tuple[str | Path, ...]] = [
        ("restore", bench.second, place),
        ("restore", bench.second, place, "--dry-run"),
        ("restore", file, "--to-device", place),
        ("restore", bench.second, "--to", "s3://nowhere/x"),
        ("dump", file),
        ("postgres", "restore", bench.second, place),
        ("drill", "postgres", bench.second, "--no-evidence"),
    ]
    for command in giving:
        done = bench.host.run(*command, code=1)
        assert b"is suspect" in done.stderr, command
        assert done.stdout == b""
        assert not place.exists()
    place.mkdir()
    assert b"is suspect" in bench.host.run("mount", bench.second, place, code=1).stderr
    assert bench.host.run("dump", file, "--although-suspect").stdout == b"two"
    for free in (
        ("ls", file),
        ("find", "file"),
        ("diff", bench.first, bench.second),
        ("verify", "--data", "100"),
        ("points", bench.second),
    ):
        assert b"is suspect" not in bench.host.run(*free).stderr


def test_points_of_a_workload_since_a_time(bench: Bench) -> None:
    other = bench.host.json("backup", bench.source, "--workload", "mail")["point"]
    mark = ("verdict", "suspect", "--sign", bench.auditor)
    done = bench.host.json(*mark, "--workload", "web", "--since", "1d")
    assert set(done["points"]) == {bench.first, bench.second}
    assert "No other point of it is free of marks" in bench.restore("web@latest", code=1)
    bench.host.run(*mark, "--workload", "nothing", code=1)
    bench.host.run(*mark, code=2)
    bench.host.run(*mark, "--until", "2020-01-01", code=1)
    assert set(bench.host.json(*mark, "--since", "1d")["points"]) == {bench.first, bench.second, other}


def test_who_may_not_say_it(bench: Bench) -> None:
    """Neither this host's writer, nor a revoked auditor, nor anybody for a point that is not there."""
    refused = bench.host.run("verdict", "suspect", bench.second, code=13).stderr
    assert b"counts for nothing" in refused
    bench.mark(bench.second)
    assert b"counts for nothing" in bench.host.run("verdict", "clean", bench.second, code=13).stderr
    sign = ("--sign", bench.auditor)
    bench.host.run("verdict", "clean", bench.first, *sign, code=1)
    bench.host.run("verdict", "suspect", "00" * 32, *sign, code=1)
    bench.host.run("auditor", "revoke", "eve")
    bench.host.run("verdict", "clean", bench.second, *sign, code=13)
    assert bench.suspects() == {bench.second}  # the vault had it before
    bench.host.run("custodian", "add", "safe", "--out", bench.desk / "safe.custodian")
    bench.host.run("verdict", "clean", bench.second, "--sign", bench.desk / "safe.custodian")
    assert bench.suspects() == set()


def test_the_reason_is_hidden_from_those_without_a_key(bench: Bench) -> None:
    bench.host.run(
        "verdict", "suspect", bench.second, "--sign", bench.auditor, "--reason", "the intern's laptop"
    )
    assert "the intern's laptop" in bench.host.text("verdict", "list")
    assert "the intern's laptop" in bench.restore(bench.second, code=1)
    for path in (bench.host.vault / "evidence").iterdir():
        assert b"laptop" not in path.read_bytes()
    bare = Donjon(bench.desk / "bare", has_kit=False)
    bare.folder.mkdir()
    there = ("--vault", bench.host.vault)
    (mark,) = bare.json("verdict", "list", *there)["marks"]
    assert (mark["reason"], mark["name"], mark["role"]) == (None, None, "auditor")
    assert "(hidden)" in bare.text("verdict", "list", *there)
    sign = ("verdict", "suspect", bench.first, "--sign", bench.auditor, *there)
    bare.run(*sign, "--reason", "x", code=13)  # nobody could read it but everybody
    bare.run(*sign)
    assert bench.suspects() == {bench.first, bench.second}


def test_a_copy_has_the_marks_and_what_it_lacks_a_host_remembers(bench: Bench) -> None:
    bench.mark(bench.second)
    copy = bench.desk / "copy"
    bench.host.run("copy", "--to", copy)
    at_copy = ("--vault", copy)
    stranger = Donjon(bench.desk / "stranger", has_kit=False)
    stranger.folder.mkdir()
    key = (*at_copy, "--kit", bench.host.kit)
    assert "is suspect" in bench.restore(bench.second, *key, code=1, host=stranger)
    bench.host.run("verdict", "clean", bench.second, "--sign", bench.auditor)
    assert bench.restore(bench.second, *at_copy) == "two"  # this host knows of the lift
    assert "is suspect" in bench.restore(bench.second, *key, code=1, host=stranger)
    bench.host.run("copy", "--to", copy)
    assert bench.restore(bench.second, *key, host=stranger) == "two"


def test_a_store_that_hides_a_mark_deceives_only_those_who_never_saw_it(bench: Bench) -> None:
    bench.mark(bench.second)
    shutil.rmtree(bench.host.vault / "evidence")
    refused = bench.restore(bench.second, code=1)
    assert "does not show this verdict" in refused
    assert "is suspect" in refused
    (mark,) = bench.host.json("verdict", "list")["marks"]
    assert (mark["state"], mark["shown"]) == ("stands", False)
    stranger = Donjon(bench.desk / "stranger", has_kit=False)
    stranger.folder.mkdir()
    key = ("--vault", bench.host.vault, "--kit", bench.host.kit)
    assert bench.restore(bench.second, *key, host=stranger) == "two"  # docs/guide-approvals.md says so


def test_damaged_evidence_is_told_and_keeps_nobody_from_a_restore(bench: Bench) -> None:
    bench.mark(bench.second)
    (bench.host.vault / "evidence" / ("0" * 64)).write_bytes(b"rubbish")
    assert "is suspect" in bench.restore(bench.second, code=1)
    assert bench.restore(bench.first) == "one"
    place = bench.desk / "told"
    told = bench.host.run("restore", bench.first, place).stderr
    assert b"may tell of suspect points" in told
    bench.host.json("verdict", "list", code=12)


# --- with approvers -----------------------------------------------------------------------------------


def test_two_of_three_let_a_suspect_point_be_restored(council: Bench) -> None:
    mark = council.mark(council.second)
    refused = council.restore("web@latest", code=11)
    assert f"not marked is {council.first[:12]}" in refused
    assert f"donjon verdict request {council.second[:12]}" in refused
    council.restore("web@latest", "--although-suspect", code=11)  # is no way around
    asked = council.ask(council.second, "--reason", "forensics")
    again = council.host.json("verdict", "request", "web@latest")
    assert (again["id"], again["new"], again["operation"]) == (asked, False, "use suspect point")
    assert (again["point"]["id"], [one["verdict"] for one in again["marks"]]) == (council.second, [mark])
    assert again["reason"] == "forensics"
    council.sign(asked, "ann")
    council.sign(asked, "ann", code=13)  # twice
    assert "1 of the 2" in council.restore(council.second, code=11)
    council.sign(asked, "bo")
    assert council.restore(council.second) == "two"
    assert council.restore("web@latest") == "two"  # until the request expires
    assert council.host.run("dump", f"{council.second}:{council.source}/file").stdout == b"two"
    assert b"by whoever restores" in council.host.run("approve", "apply", asked, code=2).stderr
    assert council.host.json("approve", "show", asked)["state"] == "approved"
    assert council.host.json("verify")["ok"]
    late = council.host.later(8)
    assert "expired" in council.restore(council.second, code=11, host=late)


def test_an_approval_is_for_no_other_point_and_no_later_mark(council: Bench) -> None:
    council.mark(council.second)
    asked = council.ask(council.second)
    for name in ("ann", "cy"):
        council.sign(asked, name)
    council.mark(council.first)
    assert "verdict request" in council.restore(council.first, code=11)
    assert council.restore(council.second) == "two"
    later = council.mark(council.second)
    assert "verdict request" in council.restore(council.second, code=11)
    renewed = council.ask(council.second)
    assert renewed != asked
    shown = council.host.text("approve", "show", renewed)
    assert later[:12] in shown
    council.host.run("verdict", "clean", council.second, "--sign", council.auditor)
    assert council.restore(council.second) == "two"
    assert b"is not suspect" in council.host.run("verdict", "request", council.second, code=1).stderr


def test_requests_go_round_as_files(council: Bench) -> None:
    council.mark(council.first, council.second)
    file, other = council.desk / "use.json", council.desk / "other.json"
    council.ask(council.second, "--file", file)
    council.ask(council.first, "--file", other)
    assert council.host.json("approve", "list")["requests"] == []
    council.sign(file, "ann")
    assert "1 of the 2" in council.restore(council.second, "--approval", file, code=11)
    council.sign(file, "bo")
    assert "other points" in council.restore(council.second, "--approval", other, code=11)
    assert "nobody has asked" in council.restore(council.second, code=11)
    assert council.restore(council.second, "--approval", file) == "two"
    file.write_text("{")
    council.restore(council.second, "--approval", file, code=2)


def test_a_vault_without_approvers_asks_nobody(bench: Bench) -> None:
    bench.mark(bench.second)
    assert b"without approvers" in bench.host.run("verdict", "request", bench.second, code=1).stderr


def test_a_mount_of_all_points_leaves_out_what_is_suspect(bench: Bench) -> None:
    from donjon.app.config import Settings
    from donjon.app.mounts import prepare_mount
    from donjon.app.verdicts.permits import NO_PERMIT
    from donjon.app.wiring import Workspace

    bench.mark(bench.second)
    told: list[str] = []
    workspace = Workspace(Settings(bench.host.home, kit=bench.host.kit))
    _, count = prepare_mount(workspace, None, told.append, NO_PERMIT)
    assert count == 1
    assert bench.second[:12] in told[0]


@pytest.fixture
def locked(host: Donjon, tmp_path: Path) -> Iterator[Bench]:
    try:
        yield Bench(host, tmp_path / "desk", approvers=False, lock="30d")
    finally:
        remove_tree(host.vault)


def test_suspect_points_push_no_clean_one_out_of_retention(locked: Bench) -> None:
    bench = locked

    def stay(host: Donjon) -> dict[str, list[str]]:
        shown = host.json("retention", "preview", "--keep", "last=1")["points"]
        return {row["id"]: row["reasons"] for row in shown}

    assert stay(bench.host) == {bench.first: [], bench.second: ["last"]}
    bench.mark(bench.second)
    third = bench.backup("three")
    bench.mark(third)
    suspect = ["not counted: it is suspect"]
    for host in (bench.host, bench.host.without_kit()):
        assert stay(host) == {bench.first: ["last"], bench.second: suspect, third: suspect}
    bench.host.run("verdict", "clean", third, "--sign", bench.auditor)
    assert stay(bench.host) == {bench.first: [], bench.second: suspect, third: ["last"]}
