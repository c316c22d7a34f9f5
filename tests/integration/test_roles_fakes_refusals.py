"""What a stolen identity of each role can do in Azure and Google Cloud, as our fakes judge it.

They read the rendered roles, and each question goes over HTTP by the providers' own libraries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import ContainerClient, ImmutabilityPolicy
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.integration.role_stage_fakes import FakeStage, azure_stage, gcp_stage
from tests.rendered import OTHER, WRITER_ID

DAY = 86_400
_REFUSED = {400, 403, 404, 409, 412}
Ways = dict[str, Callable[[], Any]]


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeStage]:
    with azure_stage(tmp_path_factory.mktemp("azure")) as made:
        made.enrolled(WRITER_ID)
        yield made


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeStage]:
    with gcp_stage(tmp_path_factory.mktemp("google")) as made:
        made.enrolled(WRITER_ID)
        yield made


def _later(days: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


@dataclass
class Names:
    """Objects of one try: locked and free ones, and names that nobody has taken."""

    number: int

    @property
    def pack(self) -> str:
        return f"prod/packs/aa/{self.number:064x}"

    @property
    def free(self) -> str:
        return f"prod/packs/ff/{self.number:064x}"

    def new(self, folder: str) -> str:
        return f"prod/{folder}/new-{self.number}"


def _done(ways: Ways, refused: type[Exception]) -> set[str]:
    found = set()
    for name, way in ways.items():
        try:
            way()
        except refused as error:
            if (getattr(error, "status_code", None) or getattr(error, "code", None)) not in _REFUSED:
                raise
            continue
        found.add(name)
    return found


# --- Azure ------------------------------------------------------------------------------------------


def _azure_client(stage: FakeStage, address: str) -> ContainerClient:
    connection = stage.variables(address)["AZURE_STORAGE_CONNECTION_STRING"]
    return ContainerClient.from_connection_string(connection, stage.account.bucket, retry_total=0)


def _policy(days: int, mode: str = "Locked") -> ImmutabilityPolicy:
    return ImmutabilityPolicy(expiry_time=_later(days), policy_mode=mode)


def _azure_ways(stage: FakeStage, role: str, number: int) -> Ways:
    admin, thief = _azure_client(stage, stage.admin_address), _azure_client(stage, stage.doors[role])
    names = Names(number)
    put = admin.upload_blob(names.pack, b"locked", immutability_policy=_policy(30))
    locked = put.get_blob_properties()["version_id"]
    old = admin.upload_blob(names.free, b"free").get_blob_properties()["version_id"]
    admin.upload_blob(names.free, b"newer", overwrite=True)
    pack, free = thief.get_blob_client(names.pack), thief.get_blob_client(names.free)
    new = names.new
    lock: Any = {"immutability_policy": _policy(30)}
    return {
        "list": lambda: list(thief.list_blobs(name_starts_with="prod/", include=["versions"])),
        "list outside": lambda: list(thief.list_blobs()),
        "read a pack": lambda: pack.download_blob().readall(),
        "put a pack": lambda: thief.upload_blob(new("packs"), b"x", **lock),
        "put a manifest": lambda: thief.upload_blob(new(f"manifests/{WRITER_ID}"), b"x", **lock),
        "put a manifest of another": lambda: thief.upload_blob(new(f"manifests/{OTHER}"), b"x"),
        "put a checkpoint": lambda: thief.upload_blob(new("checkpoints"), b"x", **lock),
        "put evidence": lambda: thief.upload_blob(new("evidence"), b"x", **lock),
        "put a keyring": lambda: thief.upload_blob(new("keyring"), b"x"),
        "put outside": lambda: thief.upload_blob("other/one", b"x"),
        "overwrite": lambda: pack.upload_blob(b"ransom", overwrite=True),
        "put in blocks": lambda: thief.get_blob_client(new("blocks")).stage_block("aa", b"x"),
        "set metadata": lambda: pack.set_blob_metadata({"a": "b"}),
        "extend": lambda: pack.set_immutability_policy(_policy(60), version_id=locked),
        "shorten": lambda: pack.set_immutability_policy(_policy(1), version_id=locked),
        "unlock": lambda: pack.set_immutability_policy(_policy(90, "Unlocked"), version_id=locked),
        "remove the lock": lambda: pack.delete_immutability_policy(version_id=locked),
        "hold": lambda: free.set_legal_hold(True, version_id=old),
        "release": lambda: free.set_legal_hold(False, version_id=old),
        "delete what is free": lambda: free.delete_blob(version_id=old),
        "hide": pack.delete_blob,
        "delete what is locked": lambda: pack.delete_blob(version_id=locked),
        "delete the container": thief.delete_container,
    }


_LOCKS_ON_AZURE = {"extend", "hold", "release"}


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("writer", {"put a pack", "put a manifest"} | _LOCKS_ON_AZURE),
        ("reader", {"list", "read a pack"}),
        ("custodian", {"list", "read a pack", "put a checkpoint"} | _LOCKS_ON_AZURE),
        ("reaper", {"list", "read a pack", "delete what is free", "hide"}),
        ("auditor", {"list", "read a pack", "put evidence"} | _LOCKS_ON_AZURE),
    ],
)
def test_what_a_stolen_identity_can_do_on_azure(azure: FakeStage, role: str, allowed: set[str]) -> None:
    number = ["writer", "reader", "custodian", "reaper", "auditor"].index(role)
    assert _done(_azure_ways(azure, role, number), HttpResponseError) == allowed


# --- Google Cloud -----------------------------------------------------------------------------------


def _google_bucket(address: str, name: str) -> Any:
    client = storage.Client(
        project="test",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # Google's own
        client_options={"api_endpoint": address},
    )
    return client.bucket(name)


def _put(bucket: Any, name: str, content: bytes = b"x", days: int = 30, **options: Any) -> Any:
    blob = bucket.blob(name)
    if days:
        blob.retention.mode = "Locked"
        blob.retention.retain_until_time = _later(days)
    blob.upload_from_string(content, retry=None, **options)
    return blob


def _retain(bucket: Any, name: str, generation: int, days: int | None, mode: str = "Locked") -> Any:
    blob = bucket.blob(name, generation=generation)
    blob.retention.mode = mode if days else None
    blob.retention.retain_until_time = _later(days) if days else None
    blob.patch(retry=None, override_unlocked_retention=days is None or mode == "Unlocked")
    return blob


def _google_ways(stage: FakeStage, role: str, number: int) -> Ways:
    name, names = stage.account.bucket, Names(number)
    admin, thief = _google_bucket(stage.admin_address, name), _google_bucket(stage.doors[role], name)
    locked = _put(admin, names.pack).generation
    old = _put(admin, names.free, days=0).generation
    _put(admin, names.free, b"newer", days=0)
    new = names.new
    return {
        "list": lambda: list(thief.list_blobs(prefix="prod/", versions=True, retry=None)),
        "read a pack": lambda: thief.blob(names.pack).download_as_bytes(retry=None),
        "put a pack": lambda: _put(thief, new("packs"), if_generation_match=0),
        "put a manifest": lambda: _put(thief, new(f"manifests/{WRITER_ID}")),
        "put a manifest of another": lambda: _put(thief, new(f"manifests/{OTHER}")),
        "put a checkpoint": lambda: _put(thief, new("checkpoints")),
        "put evidence": lambda: _put(thief, new("evidence")),
        "put a keyring": lambda: _put(thief, new("keyring")),
        "put outside": lambda: _put(thief, "other/one"),
        "overwrite": lambda: _put(thief, names.pack, b"ransom"),
        "extend": lambda: _retain(thief, names.pack, locked, 60),
        "shorten": lambda: _retain(thief, names.pack, locked, 1),
        "unlock": lambda: _retain(thief, names.pack, locked, 90, "Unlocked"),
        "remove the lock": lambda: _retain(thief, names.pack, locked, None),
        "delete what is free": lambda: thief.blob(names.free, generation=old).delete(retry=None),
        "hide": lambda: thief.blob(names.pack).delete(retry=None),
        "delete what is locked": lambda: thief.blob(names.pack, generation=locked).delete(retry=None),
        "look at the bucket": lambda: thief.reload(retry=None),
        "change the bucket": lambda: _change(thief),
        "delete the bucket": lambda: thief.delete(retry=None),
    }


def _change(bucket: Any) -> None:
    bucket.versioning_enabled = False
    bucket.patch(retry=None)


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("writer", {"put a pack", "put a manifest"}),
        ("reader", {"list", "read a pack", "look at the bucket"}),
        ("custodian", {"list", "read a pack", "look at the bucket", "put a checkpoint", "extend"}),
        ("reaper", {"list", "read a pack", "delete what is free", "hide"}),
        ("auditor", {"list", "read a pack", "look at the bucket", "put evidence"}),
    ],
)
def test_what_a_stolen_identity_can_do_on_google_cloud(
    google: FakeStage, role: str, allowed: set[str]
) -> None:
    number = ["writer", "reader", "custodian", "reaper", "auditor"].index(role)
    assert _done(_google_ways(google, role, number), GoogleAPICallError) == allowed
