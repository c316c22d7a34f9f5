"""A vault in each cloud with the real command: made, written, attacked, verified and restored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import ContainerClient
from google.api_core.exceptions import GoogleAPICallError

from donjon.core.clock import system_clock
from donjon.testing.azure import ACCOUNT, azure, azurite
from donjon.testing.gcs import fake_gcs_server, gcs
from donjon.testing.trees import compare_trees
from tests.clouds import new_bucket, new_container
from tests.integration.cli import Donjon
from tests.integration.engine import fill


@dataclass(frozen=True)
class CloudHost(Donjon):
    """A host that finds its cloud as the SDKs do, by their own variables."""

    variables: tuple[tuple[str, str], ...] = ()

    def environment(self) -> dict[str, str]:
        return super().environment() | dict(self.variables)


@dataclass(frozen=True)
class Cloud:
    donjon: CloudHost
    url: str
    unfit_url: str
    #: Deletes whatever it can, versions included; returns how many deletes were refused, and carried out.
    destroy: Callable[[], tuple[int, int]]
    #: Puts something else under every name.
    cover: Callable[[], None]


@pytest.fixture(scope="module")
def google_port() -> Iterator[int]:
    with fake_gcs_server() as port:
        yield port


@pytest.fixture(scope="module")
def azure_port() -> Iterator[int]:
    with azurite() as port:
        yield port


@pytest.fixture
def google(host: Donjon, google_port: int) -> Iterator[Cloud]:
    with gcs(google_port, system_clock) as (front, client):
        name, unfit = new_bucket(client), new_bucket(client, locks=False)

        def destroy() -> tuple[int, int]:
            outcomes = []
            blobs = list(client.list_blobs(name, versions=True))
            for blob in [*(client.bucket(name).blob(blob.name) for blob in blobs), *blobs]:
                try:
                    blob.delete(retry=None)
                    outcomes.append(True)
                except GoogleAPICallError:
                    outcomes.append(False)
            return outcomes.count(False), outcomes.count(True)

        def cover() -> None:
            for key in {blob.name for blob in client.list_blobs(name, versions=True)}:
                client.bucket(name).blob(key).upload_from_string(b"not a backup", retry=None)

        variables = (("STORAGE_EMULATOR_HOST", front.address), ("GOOGLE_CLOUD_PROJECT", "test"))
        donjon = CloudHost(host.folder, variables=variables)
        yield Cloud(donjon, f"gs://{name}/vaults/web", f"gs://{unfit}", destroy, cover)


@pytest.fixture
def microsoft(host: Donjon, azure_port: int) -> Iterator[Cloud]:
    with azure(azure_port, system_clock) as (front, connection):
        name, unfit = new_container(front), new_container(front, locks=False)
        client = ContainerClient.from_connection_string(connection, name, retry_total=0)

        def destroy() -> tuple[int, int]:
            outcomes = []
            blobs = list(client.list_blobs(include=["versions"]))
            for blob, version in [*((blob, None) for blob in blobs), *((b, b.version_id) for b in blobs)]:
                try:
                    client.delete_blob(blob.name, version_id=version)
                    outcomes.append(True)
                except HttpResponseError:
                    outcomes.append(False)
            return outcomes.count(False), outcomes.count(True)

        def cover() -> None:
            for key in {blob.name for blob in client.list_blobs(include=["versions"])}:
                client.upload_blob(key, b"not a backup", overwrite=True)

        variables = (("AZURE_STORAGE_CONNECTION_STRING", connection),)
        donjon = CloudHost(host.folder, variables=variables)
        yield Cloud(
            donjon, f"azure://{ACCOUNT}/{name}/vaults/web", f"azure://{ACCOUNT}/{unfit}", destroy, cover
        )
        client.close()


@pytest.fixture(params=["google", "microsoft"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Cloud)
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 60, 7, size_bytes=30_000)
    return folder


def test_a_vault_survives_whoever_deletes_all_that_can_be_deleted(cloud: Cloud, source: Path) -> None:
    donjon = cloud.donjon
    made = donjon.json("init", cloud.url, "--kit", donjon.kit, "--lock", "7d")
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
    error = donjon.run("init", cloud.unfit_url, "--kit", donjon.kit, code=1).stderr.decode()
    assert cloud.unfit_url in error
    assert "nothing can be locked" in error
    assert "--enable-per-object-retention" in error or "migrate-vlw" in error
    assert not donjon.kit.exists()
