"""Vaults in the fakes of two clouds, for tests of the real command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from azure.core.exceptions import HttpResponseError
from azure.storage.blob import ContainerClient
from google.api_core.exceptions import GoogleAPICallError

from donjon.core.clock import system_clock
from donjon.testing.azure.account import ACCOUNT, azure
from donjon.testing.front import Front
from donjon.testing.google.bucket import gcs
from tests.clouds import new_bucket, new_container
from tests.integration.cli import Donjon


@dataclass(frozen=True)
class CloudHost(Donjon):
    """A host that finds its cloud as the SDKs do, by their own variables."""

    variables: tuple[tuple[str, str], ...] = ()

    def environment(self) -> dict[str, str]:
        return super().environment() | dict(self.variables)


@dataclass(frozen=True)
class Cloud:
    """A host, what it reaches, and what an attacker does there."""

    donjon: CloudHost
    front: Front
    url: str
    unfit_url: str
    #: Deletes whatever it can, versions included; returns how many deletes were refused, and carried out.
    destroy: Callable[[], tuple[int, int]]
    #: Puts something else under every name.
    cover: Callable[[], None]


@contextmanager
def google(host: Donjon, port: int) -> Iterator[Cloud]:
    """Google Cloud Storage, before the server at ``port``."""
    with gcs(port, system_clock) as (front, client):
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
        yield Cloud(donjon, front, f"gs://{name}/vaults/web", f"gs://{unfit}", destroy, cover)


@contextmanager
def microsoft(host: Donjon, port: int) -> Iterator[Cloud]:
    """Azure Blob Storage, before the server at ``port``."""
    with azure(port, system_clock) as (front, connection):
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
            donjon,
            front,
            f"azure://{ACCOUNT}/{name}/vaults/web",
            f"azure://{ACCOUNT}/{unfit}",
            destroy,
            cover,
        )
        client.close()
