"""Custody by the real command: a vault in a folder, whose days pass by a clock that is moved."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
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
    fill(folder, 12, 1, size_bytes=30_000)
    return folder


@pytest.fixture
def guarded(host: Donjon, source: Path) -> Iterator[Donjon]:
    """A vault with two points that share nothing, and a custodian."""
    host.init(lock="30d")
    try:
        host.run("backup", source)
        for path in source.rglob("f*"):
            if path.is_file():
                path.write_bytes(path.name.encode() * 3000)
        host.run("backup", source)
        host.run("custodian", "add", "safe", "--out", credential(host))
        yield host
    finally:
        remove_tree(host.vault)


def credential(host: Donjon) -> Path:
    return host.folder / "safe.custodian"


def extend(host: Donjon, *keep: str, code: int = 0) -> dict[str, Any]:
    done = host.without_kit().run(
        "custody", "extend", "--credential", credential(host), *keep, "--json", code=code
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def packs(host: Donjon) -> int:
    return sum(path.is_file() for path in (host.vault / "packs").rglob("*"))


def test_a_year_of_custody_in_short(guarded: Donjon, source: Path) -> None:
    """Locks are extended without any key, what is given up goes after them, and the rest restores."""
    before = guarded.json("points")["points"]
    later = guarded.later(10)
    plan = json.loads(later.without_kit().run("custody", "plan", "--json").stdout)
    assert (plan["lock_debt"], plan["live"], plan["at_risk"]) == (2, 2, 0)
    assert plan["requests"] == sum(plan["due"].values()) > 6
    assert plan["cost"]["dollars"] == 0
    done = extend(later)["done"]
    assert (done["objects"], done["lock_debt"], done["points"]) == (plan["requests"], 0, 2)
    assert extend(later)["done"]["objects"] == 0
    after = later.json("points")["points"]
    assert all(a["locked_until"] > b["locked_until"] for a, b in zip(after, before, strict=True))

    keep = ("--keep", "last=1")
    for day in (20, 30, 40):
        assert extend(guarded.later(day), *keep)["done"]["lock_debt"] == 0
    held = packs(guarded)
    plan_file = guarded.folder / "reap.plan"
    early = guarded.later(39).json("custody", "reap", "plan", *keep, "--out", plan_file)
    assert (early["objects"], early["waiting"]) == (0, 2)
    plan_file.unlink()
    made = guarded.later(42).without_kit().json("custody", "reap", "plan", *keep, "--out", plan_file)
    assert (made["packs"], made["objects"]) == (2, 2)
    extend(guarded.later(49), *keep)
    done = guarded.later(50).without_kit().json("custody", "reap", "apply", plan_file)
    assert (done["deleted"], done["kept"]) == (2, [])
    assert packs(guarded) == held - 2
    report = guarded.later(50).json("verify", "--data", "100")
    assert (report["ok"], report["expired"]) == (True, [before[0]["id"]])
    preview = guarded.later(50).json("retention", "preview", "--keep", "last=5")["points"]
    assert [point["state"] for point in preview] == ["expired", "live"]
    target = guarded.folder / "restored"
    guarded.later(50).run("restore", f"latest:{source}", target)
    assert compare_trees(os.fsencode(source), os.fsencode(target)) == []


def test_custody_that_came_late_is_told(guarded: Donjon) -> None:
    done = guarded.later(40).without_kit().run("custody", "plan", "--json", code=4)
    plan = json.loads(done.stdout)
    assert plan["at_risk"] > 6
    assert {risk["kind"] for risk in plan["risks"]} == {"ended"}
    assert b"at risk: " in done.stderr
    assert extend(guarded.later(40), code=4)["done"]["lock_debt"] == 0
    assert extend(guarded.later(40))["at_risk"] == 0


def test_a_writer_alone_can_not_extend(guarded: Donjon) -> None:
    done = guarded.run("custody", "extend", code=2)
    assert b"--credential FILE or DONJON_CUSTODIAN" in done.stderr
    writer = next((guarded.home / "writers").rglob("*"))
    done = guarded.run("custody", "extend", "--credential", writer, code=13)
    assert b"no custodian credential" in done.stderr
    guarded.run("custodian", "revoke", "safe")
    done = guarded.run("custody", "extend", "--credential", credential(guarded), code=13)
    assert b"does not accept this custodian" in done.stderr


def test_the_credential_may_come_from_the_environment(guarded: Donjon) -> None:
    own = {"DONJON_CUSTODIAN": str(credential(guarded))}
    done = guarded.later(10).without_kit().run("custody", "extend", environment=own)
    assert b"Locked " in done.stdout
    assert b"lock debt 0" in done.stdout


def test_options_that_make_no_sense(guarded: Donjon) -> None:
    for arguments, said in (
        (("--keep", "daily"), b"needs a number"),
        (("--keep", "daily=0"), b"needs a number"),
        (("--keep", "sometimes=3"), b"no rule of retention"),
        (("--keep", "last=3", "--keep", "last=4"), b"comes twice"),
        (("--keep", "within=soon"), b"not a duration"),
        (("--epoch", "1h"), b"does not fit a lock"),
        (("--epoch", "20d"), b"does not fit a lock"),
        (("--prices", "gold"), b"no such price table"),
    ):
        assert said in guarded.run("custody", "plan", *arguments, code=2).stderr


def test_a_vault_without_locks_has_no_custody(host: Donjon, source: Path) -> None:
    host.init()
    host.run("backup", source)
    assert b"this vault has no locks" in host.run("custody", "plan", code=2).stderr


def test_only_s3_has_batch_operations(guarded: Donjon) -> None:
    out = guarded.folder / "batch.csv"
    assert b"only S3 has Batch" in guarded.run("custody", "plan", "--s3-batch", out, code=2).stderr
    assert not out.exists()


def test_a_look_first_finds_what_is_locked(guarded: Donjon) -> None:
    later = guarded.later(10)
    done = later.without_kit().json("custody", "extend", "--credential", credential(guarded), "--look-first")
    assert done["done"]["lock_debt"] == 0
    assert extend(later)["done"]["objects"] == 0


def test_a_price_table_tells_what_it_would_cost(guarded: Donjon) -> None:
    plan = guarded.later(10).json("custody", "plan", "--prices", "s3")
    writes = plan["requests"] + plan["listing_requests"]
    assert plan["cost"]["dollars"] == pytest.approx((writes * 0.005 + 2 * 0.0004) / 1000)
    assert plan["cost"]["date"]


# --- plans of a reaping ---------------------------------------------------------------------------


def test_plans_that_are_refused(guarded: Donjon, tmp_path: Path) -> None:
    for day in (10, 20, 30, 40):
        extend(guarded.later(day), "--keep", "last=1")
    plan = tmp_path / "reap.plan"
    planned = ("custody", "reap", "plan", "--keep", "last=1", "--out")
    guarded.later(42).run(*planned, plan)
    held = packs(guarded)
    assert b"never overwritten" in guarded.later(42).run(*planned, plan, code=1).stderr

    def refused(later: int, file: Path, said: bytes, host: Donjon = guarded) -> None:
        assert said in host.later(later).run("custody", "reap", "apply", file, code=1).stderr
        assert packs(guarded) == held

    refused(43, plan, b"grace time ends")
    refused(80, plan, b"too old")
    forged = tmp_path / "forged"
    forged.write_bytes(plan.read_bytes().replace(b'"policy":{"last":1', b'"policy":{"last":0'))
    refused(50, forged, b"was changed")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    stranger = Donjon(elsewhere)
    shutil.copy(guarded.kit, stranger.kit)
    done = stranger.later(50).run("custody", "reap", "apply", plan, "--vault", guarded.vault, code=1)
    assert b"no plan that was made on this host" in done.stderr
    other = tmp_path / "other-vault"
    guarded.run(
        "init",
        "--single-recipient",
        other,
        "--kit",
        tmp_path / "other.kit",
        "--lock",
        "30d",
        "--name",
        "other",
    )
    try:
        done = guarded.later(50).run("custody", "reap", "apply", plan, "--vault", "other", code=1)
        assert b"plan for another vault" in done.stderr
    finally:
        remove_tree(other)
    assert packs(guarded) == held
    guarded.later(50).run("custody", "reap", "apply", plan, "--vault", guarded.vault)
    assert packs(guarded) == held - 2


def test_nothing_is_reaped_from_a_vault_that_hides_points(guarded: Donjon) -> None:
    """This host has seen both points; a store that shows one only gets nothing deleted on its word."""
    for day in (10, 20, 30, 40):
        extend(guarded.later(day), "--keep", "last=1")
    newest = max(path for path in (guarded.vault / "manifests").rglob("*") if path.is_file())
    away = guarded.folder / "away"
    os.system(f"chattr -i {newest.parent} {newest}")  # noqa: S605 - a path of this test
    newest.rename(away)
    done = guarded.later(50).run(
        "custody", "reap", "plan", "--keep", "last=1", "--out", guarded.folder / "p", code=12
    )
    assert b"nothing is deleted from a vault that hides points" in done.stderr
    assert not (guarded.folder / "p").exists()


# --- points that approvers gave up ----------------------------------------------------------------


def test_a_point_that_approvers_gave_up_goes_after_its_lock(host: Donjon, source: Path) -> None:
    """Custody stops extending it without any policy, and the reaper takes it when the lock has ended."""
    desk = host.folder / "desk"
    desk.mkdir()
    approvers: list[str | Path] = []
    for name in ("ann", "bob"):
        host.run("approver", "new", name, "--out", desk / name)
        approvers += ["--approver", desk / f"{name}.pub"]
    host.run(
        "init",
        "--single-recipient",
        host.vault,
        "--kit",
        host.kit,
        "--lock",
        "30d",
        *approvers,
        "--approvals",
        "2",
    )
    try:
        wrong = host.json("backup", source)["point"]
        for path in source.rglob("f*"):
            if path.is_file():
                path.write_bytes(path.name.encode() * 3000)
        host.run("backup", source)
        host.run("custodian", "add", "safe", "--out", credential(host))
        asked = host.json("deletion", "request", wrong)["id"]
        for name in ("ann", "bob"):
            host.run("approve", "sign", asked, "--key", desk / name, "--yes")
        host.run("approve", "apply", asked)
        shown = host.json("retention", "preview")["points"]
        assert [(p["state"], p["given_up"]) for p in shown] == [("locked", True), ("live", False)]
        assert [extend(host.later(day))["live"] for day in (10, 20, 30, 40)] == [1] * 4
        plan = host.folder / "reap.plan"
        assert host.later(42).json("custody", "reap", "plan", "--out", plan)["packs"] == 2
        assert host.later(50).json("custody", "reap", "apply", plan)["deleted"] == 2
        report = host.later(50).json("verify", "--data", "100")
        assert (report["ok"], report["expired"]) == (True, [wrong])
        certificates = list((host.vault / "certificates").iterdir())
        assert len(certificates) == 1
        assert extend(host.later(70))["live"] == 1  # the certificate still counts
    finally:
        remove_tree(host.vault)
