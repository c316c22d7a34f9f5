"""Azure Blob Storage and Google Cloud Storage: the port's suite, through the real SDKs.

The servers are emulators behind WORM fronts that obey the documented rules; see ``donjon.testing``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from donjon.stores.azure_blob import AzureBlobStore
from donjon.stores.base import LockEnforcement, ObjectStore
from donjon.stores.gcs import GcsStore
from donjon.testing.azure.account import ACCOUNT, azure, azurite
from donjon.testing.azure.front import AzureFront
from donjon.testing.clock import ManualClock
from donjon.testing.conformance.stores import StoreTests
from donjon.testing.google.bucket import fake_gcs_server, gcs
from donjon.testing.google.front import GcsFront
from tests.clouds import new_bucket, new_container


class OnFrontsClock(StoreTests):
    """The service's clock is moved by the test; the client's is never asked."""

    clock = ManualClock()

    def pass_time(self, store: ObjectStore, seconds: int) -> None:
        self.clock.advance(seconds)
        list(store.list("nothing"))  # any answer tells the store the new time

    def test_locks_are_the_providers(self, store: ObjectStore) -> None:
        assert store.lock_enforcement is LockEnforcement.PROVIDER


@pytest.fixture(scope="module")
def google() -> Iterator[tuple[GcsFront, Any]]:
    with fake_gcs_server() as port, gcs(port, OnFrontsClock.clock) as running:
        yield running


@pytest.fixture(scope="module")
def microsoft() -> Iterator[tuple[AzureFront, str]]:
    with azurite() as port, azure(port, OnFrontsClock.clock) as running:
        yield running


class TestGcsStore(OnFrontsClock):
    @pytest.fixture
    def store(self, google: tuple[GcsFront, Any]) -> ObjectStore:
        self.client = google[1]
        return GcsStore(f"gs://{new_bucket(self.client)}/some/prefix", self.client)

    def reopen(self, store: ObjectStore) -> ObjectStore:
        return GcsStore(store.url, self.client)


class TestGcsStoreWithoutLocks(StoreTests):
    @pytest.fixture
    def store(self, google: tuple[GcsFront, Any]) -> ObjectStore:
        self.client = google[1]
        return GcsStore(f"gs://{new_bucket(self.client, locks=False)}", self.client)


class TestAzureBlobStore(OnFrontsClock):
    @pytest.fixture
    def store(self, microsoft: tuple[AzureFront, str]) -> Iterator[ObjectStore]:
        front, self.connection = microsoft
        with AzureBlobStore(
            f"azure://{ACCOUNT}/{new_container(front)}/some/prefix", self.connection
        ) as store:
            yield store

    def reopen(self, store: ObjectStore) -> ObjectStore:
        return AzureBlobStore(store.url, self.connection)


class TestAzureBlobStoreWithoutLocks(StoreTests):
    @pytest.fixture
    def store(self, microsoft: tuple[AzureFront, str]) -> Iterator[ObjectStore]:
        front, connection = microsoft
        url = f"azure://{ACCOUNT}/{new_container(front, locks=False)}"
        with AzureBlobStore(url, connection) as store:
            yield store
