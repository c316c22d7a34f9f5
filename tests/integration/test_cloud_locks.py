"""The lock rules of Azure and Google Cloud, tried with the strongest credential through the real SDKs.

The refusals are those of our fronts, which obey the providers' documentation; see ``donjon.testing``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobClient, BlobServiceClient, ImmutabilityPolicy
from google.api_core.exceptions import GoogleAPICallError

from donjon.app.stores import open_store
from donjon.core.errors import (
    LocksUnsupported,
    ObjectLocked,
    PermissionMissing,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from donjon.stores import azure_blob, gcs
from donjon.stores.azure_blob import AzureBlobStore
from donjon.stores.base import LockEnforcement, ObjectStore
from donjon.stores.gcs import GcsStore
from donjon.stores.retry import RetryingStore
from donjon.stores.s3 import operations as s3
from donjon.testing.azure.account import ACCOUNT, azure, azurite
from donjon.testing.clock import ManualClock
from donjon.testing.conformance.stores import streamed
from donjon.testing.front import Answer, Front
from donjon.testing.google.bucket import fake_gcs_server
from donjon.testing.google.bucket import gcs as google_cloud
from tests.clouds import new_bucket, new_container

DATA = b"what must not go" * 100
NAME = "packs/one"
DAY = 86_400


@dataclass
class Cloud:
    """A store with one locked object, and the provider's own client to attack it with."""

    store: ObjectStore
    front: Front
    clock: ManualClock
    client: Any
    bucket: str
    connection: str = ""
    end: int = 0
    version: str = ""

    def lock(self) -> None:
        self.end = self.clock() + 30 * DAY
        self.version = self.store.put(NAME, DATA, retain_until=self.end).version or ""

    def assert_kept(self) -> None:
        """The locked version is as it was, and a plain read finds it unless something lies over it."""
        info = self.store.head(NAME, version=self.version)
        assert (info.size_bytes, info.retain_until) == (len(DATA), self.end)
        assert self.store.get(NAME, version=self.version) == DATA


@pytest.fixture(scope="module")
def google_port() -> Iterator[int]:
    with fake_gcs_server() as port:
        yield port


@pytest.fixture(scope="module")
def azure_port() -> Iterator[int]:
    with azurite() as port:
        yield port


@pytest.fixture
def google(google_port: int) -> Iterator[Cloud]:
    clock = ManualClock()
    with google_cloud(google_port, clock) as (front, client):
        bucket = new_bucket(client)
        cloud = Cloud(GcsStore(f"gs://{bucket}/vault", client), front, clock, client, bucket)
        cloud.lock()
        yield cloud


@pytest.fixture
def microsoft(azure_port: int) -> Iterator[Cloud]:
    clock = ManualClock()
    with azure(azure_port, clock) as (front, connection):
        container = new_container(front)
        service = BlobServiceClient.from_connection_string(connection, retry_total=0)
        with AzureBlobStore(f"azure://{ACCOUNT}/{container}/vault", connection) as store, service:
            cloud = Cloud(store, front, clock, service, container, connection)
            cloud.lock()
            yield cloud


@pytest.fixture(params=["google", "microsoft"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Cloud)
    return found


# --- the table of lock rules ------------------------------------------------------------------------


def _blob(cloud: Cloud, version: str | None = None) -> Any:
    generation = None if version is None else int(version)
    return cloud.client.bucket(cloud.bucket).blob(f"vault/{NAME}", generation=generation)


def _retain(cloud: Cloud, mode: str | None, until: int | None) -> None:
    blob = _blob(cloud, cloud.version)
    blob.retention.mode = mode
    blob.retention.retain_until_time = None if until is None else datetime.fromtimestamp(until, UTC)
    blob.patch(override_unlocked_retention=True, retry=None)


def _without_versions(cloud: Cloud) -> Any:
    bucket = cloud.client.bucket(cloud.bucket)
    bucket.versioning_enabled = False
    bucket.patch(retry=None)
    return _blob(cloud)


GOOGLE_ATTEMPTS: dict[str, tuple[Callable[[Cloud], object], int]] = {
    "delete the generation": (lambda c: _blob(c, c.version).delete(retry=None), 403),
    "shorten": (lambda c: _retain(c, "Locked", c.end - 1), 403),
    "shorten into the past": (lambda c: _retain(c, "Locked", c.clock() - 1), 403),
    "unlock": (lambda c: _retain(c, "Unlocked", c.end), 403),
    "unlock and extend": (lambda c: _retain(c, "Unlocked", c.end + DAY), 403),
    "remove the retention": (lambda c: _retain(c, None, None), 403),
    "suspend versioning, then delete": (lambda c: _without_versions(c).delete(retry=None), 403),
    "suspend versioning, then overwrite": (
        lambda c: _without_versions(c).upload_from_string(b"other", retry=None),
        403,
    ),
    "delete the bucket": (lambda c: c.client.bucket(c.bucket).delete(retry=None), 409),
}


@pytest.mark.parametrize("attempt", GOOGLE_ATTEMPTS)
def test_google_refuses_to(attempt: str, google: Cloud) -> None:
    act, status = GOOGLE_ATTEMPTS[attempt]
    with pytest.raises(GoogleAPICallError) as caught:
        act(google)
    assert caught.value.code == status
    google.assert_kept()
    assert google.store.get(NAME) == DATA


def _az(cloud: Cloud) -> BlobClient:
    client = cloud.client.get_blob_client(cloud.bucket, f"vault/{NAME}")
    assert isinstance(client, BlobClient)
    return client


def _policy(cloud: Cloud, mode: str, until: int) -> None:
    policy = ImmutabilityPolicy(expiry_time=datetime.fromtimestamp(until, UTC), policy_mode=mode)
    _az(cloud).set_immutability_policy(policy, version_id=cloud.version)


def _hide_then_delete(cloud: Cloud) -> None:
    _az(cloud).delete_blob()
    _az(cloud).delete_blob(version_id=cloud.version)


AZURE_ATTEMPTS: dict[str, tuple[Callable[[Cloud], object], str]] = {
    "delete the current version": (
        lambda c: _az(c).delete_blob(version_id=c.version),
        "OperationNotAllowedOnRootBlob",
    ),
    "make it a previous version and delete that": (_hide_then_delete, "BlobImmutableDueToPolicy"),
    "shorten": (lambda c: _policy(c, "Locked", c.end - 1), "BlobImmutableDueToPolicy"),
    "unlock": (lambda c: _policy(c, "Unlocked", c.end), "BlobImmutableDueToPolicy"),
    "unlock and extend": (lambda c: _policy(c, "Unlocked", c.end + DAY), "BlobImmutableDueToPolicy"),
    "delete the policy": (
        lambda c: _az(c).delete_immutability_policy(version_id=c.version),
        "BlobImmutableDueToPolicy",
    ),
    "change the metadata": (lambda c: _az(c).set_blob_metadata({"a": "b"}), "BlobImmutableDueToPolicy"),
    "delete the container": (
        lambda c: c.client.delete_container(c.bucket),
        "ContainerImmutabilityPolicyLocked",
    ),
}


@pytest.mark.parametrize("attempt", AZURE_ATTEMPTS)
def test_azure_refuses_to(attempt: str, microsoft: Cloud) -> None:
    act, code = AZURE_ATTEMPTS[attempt]
    with pytest.raises(HttpResponseError) as caught:
        act(microsoft)
    response: Any = caught.value.response
    assert response.headers["x-ms-error-code"] == code
    microsoft.assert_kept()
    assert microsoft.store.get(NAME) == DATA


def test_once_the_lock_has_ended_the_same_attempts_succeed(google: Cloud, microsoft: Cloud) -> None:
    """So it was the lock that refused them, and not a front that refuses everything."""
    google.clock.advance(30 * DAY)
    _blob(google, google.version).delete(retry=None)
    google.client.bucket(google.bucket).delete(retry=None)
    microsoft.clock.advance(30 * DAY)
    _hide_then_delete(microsoft)
    microsoft.client.delete_container(microsoft.bucket)


def test_an_unlocked_policy_can_be_removed_so_it_counts_as_none(google: Cloud, microsoft: Cloud) -> None:
    google.clock.advance(30 * DAY)
    google.end += 30 * DAY
    _retain(google, "Unlocked", google.end)
    assert google.store.head(NAME).retain_until is None
    _retain(google, None, None)
    microsoft.clock.advance(30 * DAY)
    _policy(microsoft, "Unlocked", microsoft.end + 30 * DAY)
    assert microsoft.store.head(NAME).retain_until is None
    _az(microsoft).delete_immutability_policy(version_id=microsoft.version)


# --- hiding -----------------------------------------------------------------------------------------


def test_a_deleted_name_is_read_from_the_version_below(cloud: Cloud) -> None:
    if cloud.store.url.startswith("gs"):
        _blob(cloud).delete(retry=None)
    else:
        _az(cloud).delete_blob()
    cloud.assert_kept()
    assert cloud.store.get(NAME) == streamed(cloud.store, NAME, len(DATA)) == DATA
    assert cloud.store.head(NAME).version == cloud.version
    assert [(info.version, info.is_latest) for info in cloud.store.list()] == [(cloud.version, False)]
    cloud.store.extend(NAME, cloud.end + DAY)
    later = cloud.store.head(NAME)
    assert (later.version, later.retain_until) == (cloud.version, cloud.end + DAY)
    with pytest.raises(ObjectLocked):
        cloud.store.delete_expired(NAME)


def test_a_replaced_name_keeps_the_version_below(cloud: Cloud) -> None:
    cloud.clock.advance(1)
    if cloud.store.url.startswith("gs"):
        _blob(cloud).upload_from_string(b"other", retry=None)
    else:
        _az(cloud).upload_blob(b"other", overwrite=True)
    cloud.assert_kept()
    newest, oldest = cloud.store.list()
    assert (newest.is_latest, newest.size_bytes, newest.retain_until) == (True, 5, None)
    assert (oldest.is_latest, oldest.version, oldest.retain_until) == (False, cloud.version, cloud.end)


# --- what the adapters make of refusals -------------------------------------------------------------

MISSING: dict[str, tuple[Callable[[ObjectStore], object], str, str]] = {
    "get": (lambda s: s.get(NAME), "storage.objects.get", "read"),
    "head": (lambda s: s.head(NAME), "storage.objects.get", "read"),
    "list": (lambda s: list(s.list()), "storage.objects.list", "read"),
    "put": (lambda s: s.put("new", b""), "storage.objects.create", "add/action"),
    "put locked": (
        lambda s: s.put("new", b"", retain_until=s.now() + DAY),
        "storage.objects.setRetention",
        "immutableStorage/runAsSuperUser/action",
    ),
    "extend": (
        lambda s: s.extend(NAME, s.now() + 90 * DAY),
        "storage.objects.setRetention",
        "immutableStorage/runAsSuperUser/action",
    ),
    "delete_expired": (
        lambda s: s.delete_expired("free"),
        "storage.objects.delete",
        "deleteBlobVersion/action",
    ),
    "check_bucket": (lambda s: s.check_bucket(DAY), "storage.buckets.get", "containers/read"),
}


def test_every_call_declares_its_permissions() -> None:
    assert set(gcs.PERMISSIONS) - {"make_bucket"} == set(azure_blob.PERMISSIONS)
    assert set(gcs.PERMISSIONS) == set(s3.PERMISSIONS)
    further = {"get version", "head version", "now", "tell missing", "lock_enforcement"}
    assert set(azure_blob.PERMISSIONS) == set(MISSING) | further


@pytest.mark.parametrize(
    "permission", ["storage.buckets.create", "storage.buckets.enableObjectRetention", "storage.buckets.get"]
)
def test_who_may_not_make_a_bucket_is_told_which_permission_that_takes(
    google: Cloud, permission: str
) -> None:
    name = permission.rpartition(".")[2].lower()
    store = GcsStore(f"gs://new-{name}", google.client)
    google.front.denied.add(permission)
    with pytest.raises(PermissionMissing, match=permission):
        store.make_bucket(DAY)
    google.front.denied.clear()
    store.make_bucket(DAY)
    assert not store.check_bucket(DAY)


@pytest.mark.parametrize("method", MISSING)
def test_a_refusal_names_the_missing_permission(method: str, cloud: Cloud) -> None:
    call, google_name, azure_name = MISSING[method]
    cloud.store.put("free", b"")
    google = cloud.store.url.startswith("gs")
    declared = (gcs if google else azure_blob).PERMISSIONS[method]
    needed = {permission for operation in declared for permission in operation.permissions}
    (permission,) = [p for p in needed if p == google_name or p.endswith(f"/{azure_name}")]
    cloud.front.denied.add(permission)
    with pytest.raises(PermissionMissing) as caught:
        call(cloud.store)
    assert permission in caught.value.message
    cloud.front.denied.clear()
    call(cloud.store)


def test_who_may_not_look_at_the_bucket_puts_under_locks_all_the_same(cloud: Cloud) -> None:
    cloud.front.denied |= {
        "storage.buckets.get",
        "storage.objects.get",
        "storage.objects.list",
        "Microsoft.Storage/storageAccounts/blobServices/containers/read",
        "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read",
        "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write",
    }
    store: ObjectStore
    if cloud.store.url.startswith("gs"):
        store = GcsStore(cloud.store.url, cloud.client)
    else:
        store = AzureBlobStore(cloud.store.url, cloud.connection)
    assert store.lock_enforcement is LockEnforcement.PROVIDER
    end = store.now() + DAY
    version = store.put("by-the-writer", DATA, retain_until=end).version
    cloud.front.denied.clear()
    assert cloud.store.head("by-the-writer", version=version).retain_until == end


@pytest.mark.parametrize("status", [429, 500, 503])
def test_throttling_is_met_with_patience_of_our_own_alone(cloud: Cloud, status: int) -> None:
    cloud.front.next_answers.append(Answer(status))
    count = len(cloud.front.requests)
    with pytest.raises(StoreUnavailable):
        cloud.store.get(NAME)
    assert len(cloud.front.requests) == count + 1  # the SDK does not try again behind our back
    cloud.front.next_answers += [Answer(status)] * 3
    patient = RetryingStore(cloud.store, sleep=lambda _: None)
    assert patient.get(NAME) == DATA
    cloud.front.next_answers.append(Answer(status))
    assert patient.put("two", DATA, retain_until=cloud.end).retain_until == cloud.end


def test_bytes_that_were_damaged_on_the_way_are_refused(google: Cloud) -> None:
    blob = google.client.bucket(google.bucket).blob("damaged")
    blob.crc32c = "AAAAAA=="
    with pytest.raises(GoogleAPICallError, match="crc32c") as caught:
        blob.upload_from_string(DATA, checksum=None, retry=None)
    assert caught.value.code == 400


def test_a_put_carries_lock_and_checksum_in_one_request(microsoft: Cloud) -> None:
    count = len(microsoft.front.requests)
    microsoft.store.put("two", DATA, retain_until=microsoft.end)
    (request,) = microsoft.front.requests[count:]
    assert {"content-md5", "if-none-match", "x-ms-immutability-policy-until-date"} <= set(request.headers)
    assert request.headers["x-ms-immutability-policy-mode"] == "Locked"


def test_the_clock_is_the_providers(cloud: Cloud) -> None:
    assert abs(cloud.store.now() - cloud.clock()) <= 2
    cloud.clock.advance(365 * DAY)
    list(cloud.store.list())
    assert abs(cloud.store.now() - cloud.clock()) <= 2


def _beside(cloud: Cloud, container: str) -> AzureBlobStore:
    return AzureBlobStore(f"azure://{ACCOUNT}/{container}", cloud.connection)


# --- checks before a vault is made ------------------------------------------------------------------


def test_a_fit_bucket_has_no_faults(cloud: Cloud) -> None:
    assert not cloud.store.check_bucket(30 * DAY)


def test_each_fault_of_a_google_bucket_comes_with_its_command(google: Cloud) -> None:
    bucket = google.client.bucket("unfit")
    google.client.create_bucket(bucket)
    store = GcsStore("gs://unfit", google.client)
    fixes = [fault.fix for fault in store.check_bucket(30 * DAY)]
    for fix, option in zip(
        fixes, ["--enable-per-object-retention", "--versioning", "--public-access-prevention"], strict=True
    ):
        assert fix.endswith(option)
    assert len(store.check_bucket(0)) == 2
    with pytest.raises(LocksUnsupported):
        store.put("one", b"", retain_until=store.now() + DAY)


def test_each_fault_of_an_azure_container_comes_with_its_command(microsoft: Cloud) -> None:
    front: Any = microsoft.front
    container = new_container(front, locks=False, public="blob")
    store = _beside(microsoft, container)
    first, second = store.check_bucket(30 * DAY)
    assert f"migrate-vlw --storage-account {ACCOUNT} --name {container}" in first.fix
    assert "--public-access off" in second.fix
    with pytest.raises(LocksUnsupported):
        store.put("one", b"", retain_until=store.now() + DAY)


def test_a_missing_bucket_is_named(cloud: Cloud) -> None:
    store: ObjectStore
    if cloud.store.url.startswith("gs"):
        store = GcsStore("gs://no-such-bucket", cloud.client)
    else:
        store = _beside(cloud, "no-such-container")
    for call in (lambda: store.put("one", b""), lambda: list(store.list()), lambda: store.check_bucket(0)):
        with pytest.raises(StoreError, match="there is no such"):
            call()


def test_a_cloud_that_cannot_be_reached_may_be_later(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = "http://127.0.0.1:9"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", closed)
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING", f"AccountName=a;AccountKey=AAAA;BlobEndpoint={closed}/a"
    )
    for url in ("gs://bucket/vault", "azure://a/container/vault"):
        with open_store(url) as retrying:
            assert isinstance(retrying, RetryingStore)
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                retrying.inner.put("one", b"")


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("gs://bucket", "google.cloud.storage", "gcp"),
        ("azure://account/container", "azure.storage.blob", "azure"),
    ],
)
def test_a_missing_sdk_is_told_with_its_extra(
    url: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert f"donjon[{extra}]" in caught.value.hint


@pytest.mark.parametrize("url", ["gs://", "gs:///a", "gs://bucket?x=1", "s3://bucket"])
def test_what_is_no_address_of_google(url: str) -> None:
    with pytest.raises(UsageError):
        GcsStore(url)


@pytest.mark.parametrize("url", ["azure://", "azure://account", "azure:///container", "azure://a/c?x=1"])
def test_what_is_no_address_of_azure(url: str) -> None:
    with pytest.raises(UsageError):
        AzureBlobStore(url)


def test_a_connection_string_of_another_account_is_refused() -> None:
    text = "AccountName=other;AccountKey=AAAA;BlobEndpoint=http://127.0.0.1:1/other"
    with pytest.raises(UsageError, match="other"):
        AzureBlobStore("azure://account/container", text).get("one")
    with pytest.raises(UsageError, match="AZURE_STORAGE_CONNECTION_STRING"):
        AzureBlobStore("azure://account/container", "nonsense").get("one")
