"""A vault in each cloud with the real command: made, written, attacked, verified and restored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from donjon.testing.azure.account import azurite
from donjon.testing.folders import remove_tree
from donjon.testing.google.bucket import fake_gcs_server
from donjon.testing.trees import compare_trees
from tests.integration.cli import Donjon
from tests.integration.cloud import Cloud, google, microsoft
from tests.integration.engine import fill


@pytest.fixture(scope="module")
def google_port() -> Iterator[int]:
    with fake_gcs_server() as port:
        yield port


@pytest.fixture(scope="module")
def azure_port() -> Iterator[int]:
    with azurite() as port:
        yield port


@pytest.fixture
def in_google(host: Donjon, google_port: int) -> Iterator[Cloud]:
    with google(host, google_port) as made:
        yield made


@pytest.fixture(params=["google", "microsoft"])
def cloud(request: pytest.FixtureRequest, host: Donjon) -> Iterator[Cloud]:
    port = request.getfixturevalue("google_port" if request.param == "google" else "azure_port")
    with (google if request.param == "google" else microsoft)(host, port) as made:
        yield made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 60, 7, size_bytes=30_000)
    return folder


def test_a_vault_survives_whoever_deletes_all_that_can_be_deleted(cloud: Cloud, source: Path) -> None:
    donjon = cloud.donjon
    made = donjon.json("init", "--single-recipient", cloud.url, "--kit", donjon.kit, "--lock", "7d")
    assert made["lock_enforcement"] == "provider"
    donjon.run("backup", source)
    (source / "later").write_bytes(b"x" * 9_000_000)  # a pack that takes more than one request
    donjon.run("backup", source)
    assert len(donjon.json("points")["points"]) == 2

    refused, hidden = cloud.destroy()
    assert refused == hidden  # each object was hidden, and each version stayed
    assert hidden > 8

    stranger = replace(donjon, folder=donjon.folder.parent / "stranger")
    stranger.folder.mkdir()
    kit = {"DONJON_KIT": str(donjon.kit)}
    seen = stranger.run("verify", "--vault", cloud.url, "--data", "100", "--json", code=12, environment=kit)
    report = json.loads(seen.stdout)
    assert {finding["kind"] for finding in report["problems"]} == {"hidden"}
    assert len(report["problems"]) == hidden
    cloud.cover()
    target = stranger.folder / "out"
    stranger.run("restore", "latest", target, "--vault", cloud.url, environment=kit)
    assert compare_trees(bytes(source), bytes(target) + bytes(source)) == []


def test_init_refuses_a_bucket_without_locks_and_tells_the_fix(cloud: Cloud) -> None:
    donjon = cloud.donjon
    error = donjon.run(
        "init", "--single-recipient", cloud.unfit_url, "--kit", donjon.kit, code=1
    ).stderr.decode()
    assert cloud.unfit_url in error
    assert "nothing can be locked" in error
    assert "--enable-per-object-retention" in error or "migrate-vlw" in error
    assert not donjon.kit.exists()


def test_init_makes_or_mends_a_bucket_of_google(in_google: Cloud, source: Path) -> None:
    donjon = in_google.donjon
    missing = donjon.run("init", "--single-recipient", "gs://not-there/v", "--kit", donjon.kit, code=1)
    assert b"there is no such bucket" in missing.stderr
    assert b"--create" in missing.stderr
    refused = donjon.run(
        "init", "--single-recipient", in_google.unfit_url, "--kit", donjon.kit, "--create", code=1
    )
    assert b"nothing can be locked" in refused.stderr  # that is there from the start, or never
    made = donjon.json(
        "init",
        "--single-recipient",
        "gs://not-there/v",
        "--kit",
        donjon.kit,
        "--create",
    )
    assert made["lock_enforcement"] == "provider"
    donjon.run("backup", source)
    assert donjon.json("verify", "--data", "100")["ok"]


def test_a_copy_in_the_cloud_comes_back_from_under_what_others_laid_over_it(
    cloud: Cloud, source: Path, tmp_path: Path
) -> None:
    donjon = cloud.donjon
    donjon.init(lock="7d")
    donjon.run("backup", source)
    copy = ("copy", "--vault", donjon.vault, "--to")
    donjon.run(*copy, cloud.unfit_url, code=1)
    made = donjon.json(*copy, cloud.url)
    assert (made["points"], made["lock_enforcement"], made["problems"]) == (1, "provider", [])
    assert donjon.json(*copy, cloud.url)["objects"] == 0
    refused, hidden = cloud.destroy()
    assert refused == hidden == made["objects"]
    cloud.cover()
    back = tmp_path / "back"
    returned = donjon.json("copy", "--vault", cloud.url, "--to", back, "--lock", "7d")
    assert (returned["objects"], returned["problems"]) == (made["objects"], [])
    try:
        assert donjon.json("verify", "--vault", back, "--data", "100")["ok"]
        donjon.run("restore", "--vault", back, f"latest:{source}", tmp_path / "restored")
        assert compare_trees(bytes(source), bytes(tmp_path / "restored")) == []
    finally:
        remove_tree(back)
