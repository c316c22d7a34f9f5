"""`donjon plan` as people use it: checking, looking, comparing, and putting a plan in force."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from donjon.app.config import Home
from donjon.app.plans.files import (
    Adoption,
    PlanFile,
    keep_adopted,
    locate,
    plan_in_force,
    read_adoption,
    read_plan,
)
from donjon.cli import main
from donjon.core.errors import DonjonError, NotApproved, UsageError
from donjon.plan.load import load_form
from donjon.testing.folders import remove_tree
from tests.integration.cli import Donjon

PLAN = """\
version: 1
name: test
sites:
  here: {{provider: on-premises, account: a, region: b}}
  there: {{provider: on-premises, account: c, region: d}}
vaults:
  main: {{url: "{url}", site: there}}
defaults: {{site: here, vault: main, verify: {{every: 7d}}}}
workloads:
  files:
    source: {{kind: tree, paths: [{source}]}}
    schedule: {{every: 6h}}
    retention: {{daily: {daily}}}
"""


NAMES = ("ann", "bo", "cy")


class Host:
    """A host with plans."""

    def __init__(self, folder: Path) -> None:
        self.donjon = Donjon(folder)
        self.folder = folder
        (folder / "source").mkdir(parents=True)
        (folder / "source/file").write_text("content")
        self.donjon.home.mkdir()

    def with_vault(self, *options: str) -> Host:
        """The same, with the vault that its plans name."""
        self.donjon.init(*options)
        return self

    def plan(self, name: str, daily: int = 30, changes: Mapping[str, str] | None = None) -> Path:
        text = PLAN.format(url=self.donjon.vault, source=self.folder / "source", daily=daily)
        for old, new in (changes or {}).items():
            assert old in text
            text = text.replace(old, new)
        path = self.folder / f"{name}.yaml"
        path.write_text(text)
        return path

    def adopt(self, path: Path, *options: str | Path, code: int = 0) -> Any:
        return self.donjon.json("plan", "adopt", path, *options, code=code)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


@pytest.fixture
def enrolled(host: Host) -> Host:
    return host.with_vault()


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the approvers keep their keys."""
    folder = tmp_path_factory.mktemp("office")
    maker = Donjon(folder / "desk")
    maker.folder.mkdir()
    for name in NAMES:
        maker.json("approver", "new", name, "--out", folder / f"{name}.approver")
    yield folder
    remove_tree(folder)


@pytest.fixture
def governed(office: Path, tmp_path: Path) -> Host:
    keys = [str(office / f"{name}.approver.pub") for name in NAMES]
    named = [part for key in keys for part in ("--approver", key)]
    return Host(tmp_path / "governed").with_vault(*named, "--approvals", "2")


def sign(host: Host, office: Path, request: str | Path, name: str) -> None:
    which = ("--file", request) if isinstance(request, Path) else (request,)
    key = ("--key", office / f"{name}.approver", "--yes")
    host.donjon.json("approve", "sign", *which, *key, "--vault", host.donjon.vault)


def test_check_tells_all_at_once_with_places(host: Host) -> None:
    path = host.plan(
        "bad", changes={"vault: main": "vault: man", "daily: 30": "daly: 30", "every: 6h": "cron: 1 1 31 2 *"}
    )
    found = host.donjon.json("plan", "check", path, code=2)
    assert [(one["line"], one["rule"]) for one in found["problems"] if one["severity"] == "error"] == [
        (8, "unknown-vault"),
        (12, "never-due"),
        (13, "unknown-key"),
    ]
    assert found["plan"] is None
    text = host.donjon.text("plan", "check", path, code=2)
    assert f"{path}:13:17: error: workloads.files.retention.daly: there is no key 'daly' here" in text
    assert "Did you mean `daily`?" in text


def test_the_plan_is_found_where_it_is_said_to_be(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    path = host.plan("named")
    empty = host.folder / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert b"there is no plan" in host.donjon.run("plan", "check", code=2).stderr
    shutil.copy(path, host.donjon.home / "donjon.yaml")
    assert host.donjon.json("plan", "check")["file"] == str(host.donjon.home / "donjon.yaml")
    shutil.copy(path, empty / "donjon.yaml")
    assert host.donjon.json("plan", "check")["file"] == str(empty / "donjon.yaml")
    seen = host.donjon.run("plan", "check", "--json", environment={"DONJON_PLAN": str(path)})
    assert json.loads(seen.stdout)["file"] == str(path)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a: \x00", b"", b"[" * 200, b"x" * (5 << 20)])
def test_what_is_no_plan_is_told_and_never_traced(
    host: Host, data: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DONJON_HOME", str(host.donjon.home))
    path = host.folder / "odd.yaml"
    path.write_bytes(data)
    for command in ("check", "adopt"):
        assert main.run(["plan", command, str(path)]) == 2
    told = capsys.readouterr()
    assert str(path) in told.out + told.err
    assert "Traceback" not in told.err
    assert read_adoption(Home(host.donjon.home)) is None


def test_schema_and_example_fit_each_other(host: Host) -> None:
    example = host.folder / "example.yaml"
    example.write_bytes(host.donjon.run("plan", "example").stdout)
    assert host.donjon.json("plan", "check", example)["problems"] == []
    schema = json.loads(host.donjon.run("plan", "schema").stdout)
    assert {"credentials", "sites", "vaults", "defaults", "workloads"} < set(schema["properties"])


def test_online_tells_what_this_host_may_do(enrolled: Host) -> None:
    path = enrolled.plan("plan")
    seen = enrolled.donjon.json("plan", "check", path, "--online")["online"]
    good = {one["what"]: one["good"] for one in seen}
    assert good["whether the store lets it put objects is seen only by the first backup"] is None
    assert good[f"{enrolled.folder}/source: is there"] is True
    enrolled.donjon.json("backup", enrolled.folder / "source")
    before = sorted(enrolled.donjon.vault.rglob("*"))
    seen = enrolled.donjon.json("plan", "check", path, "--online")["online"]
    assert "the store lets it put objects" in [one["what"] for one in seen if one["good"]]
    assert sorted(enrolled.donjon.vault.rglob("*")) == before


def test_online_tells_of_a_vault_that_is_gone_and_of_a_host_that_is_not_enrolled(enrolled: Host) -> None:
    path = enrolled.plan("plan")
    remove_tree(enrolled.donjon.home / "writers")
    found = enrolled.donjon.json("plan", "check", path, "--online", code=4)
    assert any("cannot write there" in one["what"] and one["good"] is False for one in found["online"])
    remove_tree(enrolled.folder / "source")
    remove_tree(enrolled.donjon.vault)
    wrong = [
        one
        for one in enrolled.donjon.json("plan", "check", path, "--online", code=4)["online"]
        if not one["good"]
    ]
    assert {one["path"] for one in wrong} == {"vaults.main", "workloads.files.source"}


def test_a_plan_that_is_wrong_is_not_looked_at_online(host: Host) -> None:
    path = host.plan("bad", changes={"vault: main": "vault: man"})
    assert host.donjon.json("plan", "check", path, "--online", code=2)["online"] == []


def test_diff_ends_with_4_only_if_something_is_weaker(host: Host) -> None:
    strong, weak = host.plan("strong"), host.plan("weak", 7)
    assert host.donjon.json("plan", "diff", weak, strong)["weakens"] == []
    found = host.donjon.json("plan", "diff", strong, weak, code=4)
    assert [one["path"] for one in found["weakens"]] == ["workloads.files.retention.daily"]
    assert found["changes"] == ["workloads.files.retention.daily"]
    host.donjon.run("plan", "diff", code=2)  # nothing was adopted


def test_without_approvers_a_weaker_plan_has_to_be_meant(enrolled: Host) -> None:
    strong, weak = enrolled.plan("strong"), enrolled.plan("weak", 7)
    assert enrolled.adopt(strong)["adopted"] is True
    assert enrolled.adopt(strong)["adopted"] is False
    refused = enrolled.donjon.run("plan", "adopt", weak, code=1)
    assert b"--weaken" in refused.stderr
    home = Home(enrolled.donjon.home)
    with pytest.raises(NotApproved, match="weaker"):
        plan_in_force(home, weak)
    assert enrolled.adopt(weak, "--weaken")["adopted"] is True
    assert plan_in_force(home, weak)[0].workloads["files"].retention is not None
    plan_in_force(home, strong)  # stronger than what is in force


def test_the_adopted_bytes_are_kept_and_their_change_is_seen(host: Host) -> None:
    strong = host.plan("strong")
    digest = host.adopt(strong)["digest"]
    kept = host.donjon.home / "plan" / f"{digest}.yaml"
    assert kept.read_bytes() == strong.read_bytes()
    assert kept.stat().st_mode & 0o777 == 0o600
    kept.chmod(0o600)
    kept.write_text(kept.read_text().replace("daily: 30", "daily: 3"))
    home = Home(host.donjon.home)
    with pytest.raises(DonjonError, match="was changed since"):
        plan_in_force(home, host.plan("weak", 7))
    kept.unlink()
    with pytest.raises(DonjonError, match="is gone"):
        plan_in_force(home, host.plan("weak", 7))
    (host.donjon.home / "plan/adopted.json").write_text("{")
    with pytest.raises(DonjonError, match="cannot be read"):
        plan_in_force(home, strong)


def test_a_weaker_plan_takes_the_approvers_of_its_vault(governed: Host, office: Path) -> None:
    host, donjon = governed, governed.donjon
    strong, weak, weaker = host.plan("strong"), host.plan("weak", 7), host.plan("weaker", 3)
    host.adopt(strong)
    asked = host.adopt(weak, "--weaken", "--reason", "ticket 4711", code=11)  # --weaken is no way around
    [request] = asked["requests"]
    assert asked["adopted"] is None
    assert (request["plan"], request["new_plan"]) == (host.adopt(strong)["digest"], asked["digest"])
    sign(host, office, request["id"], "ann")
    again = host.adopt(weak, code=11)["requests"]
    assert [one["id"] for one in again] == [request["id"]]
    assert len(again[0]["signed"]) == 1
    sign(host, office, request["id"], "bo")
    assert host.adopt(weaker, code=11)["requests"][0]["id"] != request["id"]  # not what they signed
    assert host.adopt(weak)["requests"] == [request["id"]]
    assert donjon.json("plan", "check", donjon.home / "plan" / f"{asked['digest']}.yaml")["plan"] == "test"

    # What was signed once does not bring the weaker plan back.
    assert host.adopt(strong)["adopted"] is True
    anew = host.adopt(weak, code=11)["requests"]
    assert anew[0]["id"] != request["id"]
    assert anew[0]["signed"] == []


def test_signatures_in_files_count_and_those_of_others_do_not(governed: Host, office: Path) -> None:
    host, donjon = governed, governed.donjon
    strong, weak = host.plan("strong"), host.plan("weak", 7)
    host.adopt(strong)
    [request] = host.adopt(weak, code=11)["requests"]
    files = [host.folder / "one.json", host.folder / "two.json"]
    for file, name in zip(files, ("ann", "cy"), strict=True):
        donjon.json("approve", "show", request["id"], "--out", file)
        sign(host, office, file, name)
    host.adopt(weak, "--file", files[0], code=11)
    damaged = host.folder / "damaged.json"
    content = json.loads(files[1].read_text())
    content["signatures"] = dict.fromkeys(content["signatures"], "A" * 86 + "==")
    damaged.write_text(json.dumps(content))
    host.adopt(weak, "--file", files[0], "--file", damaged, code=11)
    assert host.adopt(weak, "--file", files[0], "--file", files[1])["adopted"] is True


def test_a_vault_that_cannot_be_asked_has_not_agreed(governed: Host) -> None:
    host = governed
    strong, weak = host.plan("strong"), host.plan("weak", 7)
    host.adopt(strong)
    aside = host.folder / "aside"
    host.donjon.vault.rename(aside)
    host.donjon.run("plan", "adopt", weak, "--weaken", code=10)
    aside.rename(host.donjon.vault)
    adopted = read_adoption(Home(host.donjon.home))
    assert adopted is not None
    assert (host.donjon.home / "plan" / f"{adopted.digest}.yaml").read_bytes() == strong.read_bytes()


def test_sending_backups_elsewhere_takes_the_approvers_of_the_old_vault(governed: Host) -> None:
    host = governed
    host.adopt(host.plan("plan"))
    elsewhere = host.plan("elsewhere", changes={str(host.donjon.vault): str(host.folder / "theirs")})
    assert len(host.adopt(elsewhere, "--weaken", code=11)["requests"]) == 1


def test_without_any_file_the_adopted_plan_is_meant(host: Host) -> None:
    home, empty = Home(host.donjon.home), host.folder / "source"
    with pytest.raises(UsageError, match="there is no plan"):
        locate(home, None, {}, empty)
    file = read_plan(host.plan("strong"))
    keep_adopted(home, file, Adoption(file.digest.hex(), 1))
    found = locate(home, None, {}, empty)
    assert plan_in_force(home, found) == (file.plan, file.digest)
    assert locate(home, Path("a"), {"DONJON_PLAN": "b"}, empty) == Path("a")
    assert locate(home, None, {"DONJON_PLAN": "b"}, empty) == Path("b")


def test_a_plan_that_lint_would_refuse_today_is_still_what_others_are_compared_with(host: Host) -> None:
    old = host.plan("old", changes={"every: 6h": "cron: 0 0 30 2 *"})
    file = PlanFile(old, old.read_bytes(), load_form(old.read_text(), "old"))
    home = Home(host.donjon.home)
    keep_adopted(home, file, Adoption(file.digest.hex(), 1))
    plan_in_force(home, host.plan("same"))
    with pytest.raises(NotApproved, match="retention"):
        plan_in_force(home, host.plan("weak", 7))


def test_a_crash_between_both_writes_leaves_the_old_plan_in_force(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    from donjon.app.plans import files as plan_files

    strong, better = host.plan("strong"), host.plan("better", 60)
    host.adopt(strong)
    home = Home(host.donjon.home)
    before = read_adoption(home)
    assert before is not None

    def crash(path: Path, data: bytes) -> None:
        raise OSError(5, os.strerror(5))

    file = plan_files.read_plan(better)
    with monkeypatch.context() as patch:
        patch.setattr(plan_files, "replace_private", crash)
        with pytest.raises(OSError, match="Input/output"):
            plan_files.keep_adopted(home, file, plan_files.Adoption(file.digest.hex(), 1))
    assert read_adoption(home) == before
    assert host.adopt(better)["adopted"] is True
