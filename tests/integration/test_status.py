"""`donjon status` with real vaults: a bucket and a copy of it in a folder, whole and broken in each way."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from donjon.app.config import Settings
from donjon.app.status.matrix import Wanted, take_status
from donjon.cli.status import status_data
from donjon.core.clock import Clock, system_clock
from donjon.core.events import Silent
from donjon.stores.s3 import S3Store
from donjon.testing.aws.seaweedfs import SeaweedFs
from donjon.testing.folders import remove_tree
from donjon.testing.servers.ports import free_port
from tests.integration.cli import Donjon
from tests.integration.engine import fill

_PLAN = """\
version: 1
name: shop
sites:
  office: {provider: on-premises, account: example.com, region: Berlin, administrators: [ann]}
  backup: {provider: aws, account: "444455556666", region: eu-west-1, administrators: [security]}
vaults:
  main: {url: "MAIN", site: backup}
  cellar: {url: "CELLAR", site: office, medium: disk}
defaults:
  site: office
  vault: main
  copies: [cellar]
  rpo: 1d
  rto: 1h
  verify: {every: 7d, data_percent: 1}
  retention: {daily: 7}
workloads:
  website:
    source: {kind: tree, paths: [SOURCE]}
"""


@dataclass(frozen=True)
class Stage:
    """A host, its bucket, the copy in a folder, and the credential of an auditor."""

    host: Donjon
    server: SeaweedFs
    bucket: str
    source: Path

    @property
    def url(self) -> str:
        return f"{self.server.url(self.bucket)}"

    @property
    def cellar(self) -> Path:
        return self.host.folder / "cellar"

    @property
    def auditor(self) -> Path:
        return self.host.folder / "eve.auditor"

    def plan(self, change: Callable[[str], str] = str) -> Path:
        text = _PLAN.replace("MAIN", self.url).replace("CELLAR", str(self.cellar))
        file = self.host.folder / "donjon.yaml"
        file.write_text(change(text.replace("SOURCE", str(self.source))))
        return file

    def status(
        self, change: Callable[[str], str] = str, *, red: str = "", clock: Clock = system_clock
    ) -> dict[str, Any]:
        """The cells of the one workload by rule, of which ``red`` are red and no others."""
        wanted = Wanted(self.plan(change))
        settings = Settings(self.host.home, kit=self.host.kit)
        data: dict[str, Any] = status_data(take_status(settings, {}, wanted, clock, Silent()))
        (workload,) = data["workloads"]
        cells = {cell["rule"]: cell for cell in workload["cells"]}
        found = [rule for rule, cell in cells.items() if cell["state"] in {"not-met", "unknown"}]
        assert sorted(found) == sorted(red.split()), [cells[rule]["reason"] for rule in found]
        assert all(cells[rule]["remedy"] for rule in found)
        assert data["green"] is not bool(red)
        return cells | {"workload": workload}

    def versions(self, prefix: str) -> list[str]:
        listed = self.server.client().list_object_versions(Bucket=self.bucket, Prefix=prefix)
        return [entry["Key"] for entry in listed["Versions"]]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, s3_server: SeaweedFs) -> Iterator[Stage]:
    """Everything as it should be."""
    folder = tmp_path_factory.mktemp("status") / "host"
    folder.mkdir()
    host = Donjon(folder)
    made = Stage(host, s3_server, f"status{s3_server.make_bucket()}", folder / "source")
    fill(made.source, 20, 1, size_bytes=20_000)
    try:
        kits = ("--kit", host.kit, "--second-kit", host.second_kit)
        host.run("init", made.url, *kits, "--lock", "30d", "--create")
        host.run("backup", made.source, "--workload", "website")
        host.run("auditor", "add", "eve", "--out", made.auditor)
        host.run("copy", "--to", made.cellar)
        sign = ("--record", "--sign", made.auditor)
        for place in (made.url, made.cellar):
            host.run("verify", "--vault", place, "--data", "100", *sign)
        host.run("restore", "website@latest", folder / "restored", "--vault", made.url, *sign)
        yield made
    finally:
        remove_tree(folder)


def test_all_is_green(stage: Stage) -> None:
    cells = stage.status()
    assert cells["copies"]["value"] == "3"
    assert cells["media"]["reason"] == "object-storage, volume"  # the folder is on the disk of production
    assert cells["offsite"]["reason"] == "backup main at backup"
    assert "backup main until " in cells["immutable"]["reason"]
    assert cells["verified"]["value"] == "0"
    assert "evidence " in cells["rto"]["reason"]
    shared = [(one["one"], one["other"]) for one in cells["workload"]["shared"]]
    assert shared == [("production", "backup cellar")]
    main = next(copy for copy in cells["workload"]["copies"] if copy["name"] == "main")
    assert main["lock_mode"] == "compliance"
    assert [key["owner"].split()[0] for key in main["keys"]] == ["kit", "kit"]
    assert (main["verified"]["depth"], main["verified"]["data_percent"]) == ("data", 100)


def test_the_catalog_tells_whose_points_are_whose_without_any_key(stage: Stage) -> None:
    from donjon.catalog.points import CopyRow, PointRow, put_points
    from donjon.catalog.schema import open_catalog

    bare = stage.host.without_kit()
    sealed = bare.json("status", "--plan", stage.plan(), code=4)["workloads"][0]
    assert {cell["state"] for cell in sealed["cells"][:4]} == {"unknown"}
    assert "sealed" in sealed["cells"][0]["reason"]
    (point,) = stage.host.json("points", "--vault", stage.url)["points"]
    catalog = open_catalog(None, stage.host.home)
    row = PointRow(point["id"], "ab" * 16, "manifests/x", 1, "website", 1)
    put_points(catalog, [row], [CopyRow(point["id"], stage.url, 1, 0)])
    catalog.close()
    try:
        assert bare.json("status", "--plan", stage.plan())["green"]
    finally:
        for file in stage.host.home.glob("catalog.db*"):
            file.unlink()
    assert stage.host.json("status", "--plan", stage.plan())["green"]


def test_a_clock_that_was_set_back_makes_nothing_younger(stage: Stage) -> None:
    stage.status(clock=lambda: 0)
    stage.status(lambda text: text.replace("every: 7d", "every: 1s"), red="verified", clock=lambda: 0)


# -- broken, each in one way -----------------------------------------------------------------------


def test_a_weakened_lock(stage: Stage) -> None:
    client = stage.server.client()
    before = client.get_object_lock_configuration(Bucket=stage.bucket)["ObjectLockConfiguration"]
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 30}}
    weak = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    client.put_object_lock_configuration(Bucket=stage.bucket, ObjectLockConfiguration=weak)
    try:
        cells = stage.status(red="immutable")
    finally:
        client.put_object_lock_configuration(Bucket=stage.bucket, ObjectLockConfiguration=before)
    assert "main is kept by locks that some administrators can lift" in cells["immutable"]["reason"]


def test_a_copy_that_was_deleted(stage: Stage) -> None:
    away = stage.cellar.with_name("away")
    stage.cellar.rename(away)
    try:
        cells = stage.status(red="copies")
    finally:
        away.rename(stage.cellar)
    assert "backup cellar is not whole: " in cells["copies"]["reason"]
    assert "no such folder" in cells["copies"]["reason"]
    assert cells["copies"]["state"] == "not-met"


def test_an_object_under_a_delete_marker(stage: Stage) -> None:
    client = stage.server.client()
    (pack, *_) = stage.versions("packs/")
    marker = client.delete_object(Bucket=stage.bucket, Key=pack)["VersionId"]
    try:
        cells = stage.status(red="verified")
    finally:
        client.delete_object(Bucket=stage.bucket, Key=pack, VersionId=marker)
    assert f"hidden by delete markers, such as {pack}" in cells["verified"]["reason"]
    stage.status()


def test_a_pack_that_is_gone(stage: Stage, tmp_path: Path) -> None:
    copied = tmp_path / "cellar"
    shutil.copytree(stage.cellar, copied)
    next(path for path in (copied / "packs").rglob("*") if path.is_file()).unlink()
    cells = stage.status(lambda text: text.replace(str(stage.cellar), str(copied)), red="copies")
    assert "packs are missing" in cells["copies"]["reason"]


def test_a_vault_in_the_account_of_production(stage: Stage) -> None:
    cells = stage.status(
        lambda text: text.replace(
            'provider: aws, account: "444455556666"', "provider: on-premises, account: example.com"
        ),
        red="copies offsite",
    )
    assert "share: the account on-premises:example.com" in cells["copies"]["reason"]
    assert "shares with production: the account on-premises:example.com" in cells["offsite"]["reason"]


def test_an_administrator_of_both_places(stage: Stage) -> None:
    cells = stage.status(lambda text: text.replace("[security]", "[security, ann]"), red="copies offsite")
    assert "the administrator ann" in cells["offsite"]["reason"]


def test_evidence_that_is_too_old(stage: Stage) -> None:
    cells = stage.status(lambda text: text.replace("every: 7d", "every: 1s"), red="verified")
    assert "ago, and the plan wants that every 1.0 s" in cells["verified"]["reason"]


def test_a_vault_that_cannot_be_reached(stage: Stage) -> None:
    port = free_port()
    cells = stage.status(
        lambda text: re.sub(r"endpoint=[^\"]*", f"endpoint=http://127.0.0.1:{port}", text),
        red="copies media offsite immutable rto",
    )
    for rule in ("copies", "media", "offsite", "immutable"):
        assert cells[rule]["state"] == "unknown"
        assert "backup main cannot be looked at: " in cells[rule]["reason"]


def test_locks_that_end_before_retention_does_need_a_custodian(stage: Stage) -> None:
    cells = stage.status(lambda text: text.replace("daily: 7", "yearly: 7"), red="immutable")
    assert "and the point is to stay until " in cells["immutable"]["reason"]
    credential = stage.host.folder / "carl.custodian"
    stage.host.run("custodian", "add", "carl", "--out", credential, "--vault", stage.url)
    stage.host.run("custody", "checkpoint", "--credential", credential, "--vault", stage.url)
    stage.host.run("copy", "--vault", stage.url, "--to", stage.cellar)
    stage.status(lambda text: text.replace("daily: 7", "yearly: 7"))


def test_a_point_that_is_too_old_and_a_restore_that_takes_too_long(stage: Stage) -> None:
    cells = stage.status(
        lambda text: text.replace("rpo: 1d", "rpo: 1s").replace("rto: 1h", "rto: 0s"),
        red="copies media offsite immutable verified rpo rto",
    )
    assert "the newest whole point is " in cells["rpo"]["reason"]
    assert "a copy counts for 2.0 s" in cells["copies"]["reason"]
    assert "took " in cells["rto"]["reason"]


def test_what_a_writer_signed_proves_nothing(stage: Stage, tmp_path: Path) -> None:
    """A writer's key is where production is; so is whoever took it over."""
    copied = tmp_path / "cellar"
    shutil.copytree(stage.cellar, copied)
    there = lambda text: text.replace(str(stage.cellar), str(copied))  # noqa: E731
    try:
        stage.host.run("verify", "--vault", copied, "--data", "100", "--record")
        cells = stage.status(there, red="verified")
        assert "only a writer signed" in cells["verified"]["reason"]
        stage.host.run("verify", "--vault", copied, "--data", "100", "--record", "--sign", stage.auditor)
        stage.status(there)
    finally:
        remove_tree(copied)  # the evidence is immutable


def test_an_object_under_a_lock_that_can_be_lifted_is_told(stage: Stage) -> None:
    lock = {
        "ObjectLockMode": "GOVERNANCE",
        "ObjectLockRetainUntilDate": datetime.now(UTC) + timedelta(hours=1),
    }
    stage.server.client().put_object(Bucket=stage.bucket, Key="evidence/of-others", Body=b"x", **lock)
    with S3Store(stage.url) as store:
        weak, strong = store.head("evidence/of-others"), store.head("vault")
    assert (weak.is_weakly_locked, strong.is_weakly_locked) == (True, False)
    assert weak.retain_until is not None
    client = stage.server.client()
    version = weak.version
    client.delete_object(
        Bucket=stage.bucket, Key="evidence/of-others", VersionId=version, BypassGovernanceRetention=True
    )


def test_a_suspect_point_is_no_copy_until_its_mark_is_lifted(stage: Stage) -> None:
    (point,) = stage.host.json("points", "--vault", stage.url)["points"]
    sign = ("--sign", stage.auditor, "--vault", stage.url)
    stage.host.run("verdict", "suspect", point["id"][:12], *sign)
    # The copy in the cellar has no such verdict, and its point is the same.
    cells = stage.status(red="copies media offsite immutable verified rpo")
    for rule in ("copies", "rpo"):
        assert f"suspect ones: {point['id'][:12]}, marked by the auditor eve (" in cells[rule]["reason"]
        assert "donjon verdict list" in cells[rule]["remedy"]
    assert cells["copies"]["state"] == "not-met"
    for copy in cells["workload"]["copies"][1:]:
        assert (copy["point"], copy["suspect"]["points"]) == (None, [point["id"]])
    # A place that shows no verdict deceives nobody who saw it. Who never did learns it from no one.
    folder = lambda text: text.replace("  vault: main\n  copies: [cellar]", "  vault: cellar")  # noqa: E731
    hiding = stage.host.json("status", "--plan", stage.plan(folder), code=4)
    (copy,) = (one for one in hiding["workloads"][0]["copies"] if one["kind"] == "backup")
    assert copy["suspect"]["points"] == [point["id"]]
    assert "does not show this verdict" in hiding["warnings"][0]
    # The page and what is signed tell of it, too.
    page = stage.host.folder / "suspect.html"
    recorded = ("--html", page, "--record", "--sign", stage.auditor)
    stage.host.run("status", "--plan", stage.plan(), *recorded, code=4)
    assert f"suspect ones: {point['id'][:12]}, marked by the auditor eve" in page.read_text()
    rows = stage.host.json("evidence", "show", "latest", "--vault", stage.url)["rows"]
    assert [row["answer"] for row in rows if row["tried"] == "workload 1: suspect"] == [point["id"]]
    stage.host.run("verdict", "clean", point["id"][:12], *sign)
    stage.status()


def test_a_clean_point_counts_below_suspect_ones(stage: Stage) -> None:
    """The newest backups of an encrypted source keep no workload green."""
    first = stage.host.json("points", "--vault", stage.url)["points"][-1]["id"]
    (stage.source / "ransom").write_bytes(b"note")
    stage.host.run("backup", stage.source, "--workload", "website", "--vault", stage.url)
    last = stage.host.json("points", "--vault", stage.url)["points"][-1]["id"]
    sign = ("--sign", stage.auditor, "--vault", stage.url)
    stage.host.run("verdict", "suspect", last, *sign)
    cells = stage.status()
    main = next(copy for copy in cells["workload"]["copies"] if copy["name"] == "main")
    assert main["point"] == first
    assert main["suspect"]["points"] == [last]
    assert main["suspect"]["marked"].startswith("by the auditor eve (")
    old = stage.status(
        lambda text: text.replace("rpo: 1d", "rpo: 1s"), red="copies media offsite immutable verified rpo"
    )
    assert f"but for suspect ones: {last[:12]}" in old["rpo"]["reason"]
    assert f"newer points are suspect: {last[:12]}" in old["copies"]["reason"]
    told = stage.host.text("status", "--plan", stage.plan(), "-v")
    assert f"suspect: {last[:12]}" in re.sub(r"suspect +", "suspect: ", told)
    stage.host.run("verdict", "clean", last, *sign)
    cells = stage.status()
    assert next(copy for copy in cells["workload"]["copies"] if copy["name"] == "main")["point"] == last


# -- what is made of it ----------------------------------------------------------------------------


def test_the_matrix_as_text_as_a_page_and_as_evidence(stage: Stage) -> None:
    page = stage.host.folder / "report.html"
    plan = stage.plan(lambda text: text.replace("Berlin", "'<b>Berlin'"))
    text = stage.host.text(
        "status", "--plan", plan, "--html", page, "--record", "--sign", stage.auditor, "-v"
    )
    assert "WORKLOAD  COPIES  MEDIA" in text
    assert re.search(r"^website +3 ok +2 ok +1 ok +1 ok +0 ok ", text, re.MULTILINE)
    assert "\x1b" not in text
    html = page.read_text()
    assert "<script" not in html
    assert "://" not in re.sub(r"(file|s3|http)://[^<\s]*", "", html)
    assert "&lt;b&gt;Berlin" in html
    assert "<b>" not in html
    assert os.stat(page).st_mode & 0o077 == 0
    assert b"never overwrites" in stage.host.run("status", "--plan", plan, "--html", page, code=1).stderr
    shown = stage.host.without_kit().json("evidence", "show", "latest", "--vault", stage.url)
    assert (shown["kind"], shown["passed"], shown["role"]) == ("status", True, "auditor")
    assert shown["rows"][0]["tried"] == "workload 1: copies"
    told = str(shown)
    assert not any(name in told for name in ("website", "Berlin", "ann", "main", "cellar", str(stage.source)))
    assert stage.host.json("evidence", "show", "latest", "--vault", stage.cellar)["kind"] == "status"


def test_a_plan_or_a_workload_that_is_not_there(stage: Stage) -> None:
    assert b"no such workload" in stage.host.run("status", "--plan", stage.plan(), "nope", code=2).stderr
    stage.host.run("status", "--plan", stage.host.folder / "none.yaml", code=2)
    strange = stage.host.folder / "strange.auditor"
    stage.host.run("status", "--plan", stage.plan(), "--record", "--sign", strange, code=13)
