"""The adapters to buckets, each at a server on this machine."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from donjon.clouds.objects.address import BucketAddress
from donjon.clouds.objects.azure import AzureObjects
from donjon.clouds.objects.base import Metadata, Objects
from donjon.clouds.objects.gcs import GcsObjects
from donjon.clouds.objects.s3 import S3Objects
from donjon.core.errors import StoreError
from donjon.testing.aws.seaweedfs import SeaweedFs
from donjon.testing.azure.account import ACCOUNT, KEY, azurite
from donjon.testing.conformance.objects import ObjectsTests
from donjon.testing.google.bucket import fake_gcs_server

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def azurite_port() -> Iterator[int]:
    with azurite() as port:
        yield port


@pytest.fixture(scope="module")
def google_client() -> Iterator[Any]:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    with fake_gcs_server() as port:
        yield storage.Client(
            project="test",
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # Google's own
            client_options={"api_endpoint": f"http://127.0.0.1:{port}"},
        )


class TestS3(ObjectsTests):
    impossible = frozenset({"a", "folder/", "a//b", "a/../b", "./x", "../x", "..", "k" * 900, "back\\slash"})

    @pytest.fixture
    def objects(self, s3_server: SeaweedFs) -> Iterator[Objects]:
        url = f"s3://{s3_server.make_bucket(locks=False)}/in%20here?endpoint={s3_server.endpoint}"
        made = S3Objects(BucketAddress.parse(url))
        yield made
        made.close()


class TestS3AtMoto(ObjectsTests):
    """SeaweedFS keeps files, and so not all keys that S3 has; moto keeps all."""

    @pytest.fixture
    def objects(self, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        name = f"objects{next(_numbers)}"
        made = S3Objects(BucketAddress.parse(f"s3://{name}/in%20here?endpoint={moto_endpoint}"))
        made._client.create_bucket(Bucket=name)
        yield made
        made.close()


class TestAzure(ObjectsTests):
    impossible = frozenset({"a/../b", "./x", "../x", "..", "back\\slash"})

    def test_keys_that_would_mean_others_are_refused(self, objects: Objects) -> None:
        for key in self.impossible - {"back\\slash"}:
            with pytest.raises(StoreError, match="no blobs"):
                objects.put(f"in here/{key}", b"x", Metadata(), replace=True)
            with pytest.raises(StoreError, match="no blobs"):
                objects.start(f"in here/{key}", 1, Metadata(), replace=True)

    @pytest.fixture
    def objects(self, azurite_port: int) -> Iterator[Objects]:
        told = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
        told += f"BlobEndpoint=http://127.0.0.1:{azurite_port}/{ACCOUNT};"
        name = f"objects{next(_numbers)}"
        made = AzureObjects(
            BucketAddress.parse(f"azure://{ACCOUNT}/{name}/in%20here"), connection_string=told
        )
        made._service.create_container(name)
        yield made
        made.close()


class TestGoogle(ObjectsTests):
    tags = False
    checks_parts = False  # fake-gcs-server looks at the condition of an upload when it starts

    @pytest.fixture
    def objects(self, google_client: Any) -> Objects:
        name = f"objects{next(_numbers)}"
        google_client.create_bucket(name)
        return GcsObjects(BucketAddress.parse(f"gs://{name}/in%20here"), client=google_client)
