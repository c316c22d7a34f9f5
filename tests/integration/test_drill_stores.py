"""The attack drill on Azure, Google Cloud (our fronts, which obey the documentation) and folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import BlobServiceClient

from donjon.core.clock import system_clock
from donjon.core.errors import CredentialsRejected, PermissionMissing
from donjon.core.events import never_stop
from donjon.drills import azure, files, gcs
from donjon.drills.base import Report, Role
from donjon.drills.canaries import Canary
from donjon.drills.ground import Ask, Attacks, Ground, attack_store
from donjon.stores.azure_blob import AzureBlobStore
from donjon.stores.base import ObjectStore
from donjon.stores.gcs import GcsStore
from donjon.stores.local import LocalStore
from donjon.testing.azure.account import ACCOUNT, azurite
from donjon.testing.azure.account import azure as azure_cloud
from donjon.testing.folders import remove_tree
from donjon.testing.front import Front
from donjon.testing.google.bucket import fake_gcs_server
from donjon.testing.google.bucket import gcs as google_cloud
from tests.clouds import new_bucket, new_container
from tests.integration.cli import Donjon

ACTIONS = "Microsoft.Storage/storageAccounts/blobServices/containers"


class Place:
    """A store, the attacks that fit it, and canaries of any bytes."""

    def __init__(self, store: ObjectStore, attacks: Attacks, ask: Ask, front: Front | None = None) -> None:
        self.store, self.attacks, self.ask, self.front = store, attacks, ask, front
        self.made = 0

    def make(self) -> Canary:
        self.made += 1
        return Canary(f"packs/00/{self.made:08d}", f"canary {self.made}".encode())

    def drill(self, role: Role, *, intrusive: bool = True) -> tuple[Report, dict[str, str]]:
        """The report, and what was seen of each attack."""
        ground = Ground(self.store, self.make, self.ask, is_sure=False, intrusive=intrusive)
        report = Report()
        rows = list(attack_store(ground, self.attacks, role, report, accepted=frozenset(), stop=never_stop))
        names = [attack.name for attack, _ in self.attacks]
        return report, {name: row.seen for name, row in zip(names, rows, strict=True)}


@pytest.fixture(scope="module")
def google_port() -> Iterator[int]:
    with fake_gcs_server() as port:
        yield port


@pytest.fixture(scope="module")
def azure_port() -> Iterator[int]:
    with azurite() as port:
        yield port


@pytest.fixture
def google(google_port: int) -> Iterator[Callable[..., Place]]:
    with google_cloud(google_port, system_clock) as (front, client):

        def make(*, locks: bool = True) -> Place:
            bucket = new_bucket(client, locks=locks)
            store = GcsStore(f"gs://{bucket}/v", client)
            return Place(store, gcs.attacks(store.client, "v/"), gcs.ask, front)

        yield make


@pytest.fixture
def microsoft(azure_port: int) -> Iterator[Callable[..., Place]]:
    with azure_cloud(azure_port, system_clock) as (front, connection):

        def make(*, locks: bool = True, secret: str = "") -> Place:
            container = new_container(front, locks=locks)
            told = connection if not secret else connection.replace("AccountKey=", f"AccountKey={secret}")
            store = AzureBlobStore(f"azure://{ACCOUNT}/{container}/v", told)
            return Place(store, azure.attacks(store.client, "v/"), azure.ask, front)

        yield make


def test_the_administrator_of_a_container_loses_nothing(microsoft: Callable[..., Place]) -> None:
    report, seen = microsoft().drill(Role.ADMINISTRATOR)
    assert report.failed == []
    for name in ("delete-version", "shorten", "downgrade", "remove-lock", "delete-bucket"):
        assert seen[name] == "refused" or (name == "delete-version" and "nothing lost" in seen[name]), name
    assert seen["delete-marker"] == seen["overwrite"] == "accepted, nothing lost"
    assert {left.name for left in report.leftovers} >= {"packs/00/00000001"}


def test_a_container_without_locks_is_found_out(microsoft: Callable[..., Place]) -> None:
    report, seen = microsoft(locks=False).drill(Role.ADMINISTRATOR)
    assert report.failed == ["delete-version"]
    assert seen["delete-bucket"] == seen["shorten"] == "not tried"
    assert report.leftovers == []


def test_who_may_do_nothing_in_azure_is_refused_everything(microsoft: Callable[..., Place]) -> None:
    place = microsoft()
    assert place.front is not None
    place.front.denied |= {f"{ACTIONS}/blobs/delete", f"{ACTIONS}/blobs/deleteBlobVersion/action"}
    place.front.denied |= {f"{ACTIONS}/blobs/write", f"{ACTIONS}/delete"}
    report, seen = place.drill(Role.CUSTODIAN)
    assert set(report.failed) == {"put"}  # which this custodian may, by mistake
    assert seen["delete-marker"] == seen["overwrite"] == seen["delete-bucket"] == "refused"


def test_a_wrong_key_of_azure_proves_nothing(microsoft: Callable[..., Place]) -> None:
    with pytest.raises((CredentialsRejected, PermissionMissing)):
        microsoft(secret="AAAA").drill(Role.OUTSIDER)
    client: Any = BlobServiceClient(
        f"{microsoft().store.client.url.rsplit('/', 1)[0]}",  # type: ignore[attr-defined]
        credential={"account_name": ACCOUNT, "account_key": "AAAA"},
    )
    with pytest.raises(CredentialsRejected):
        azure.ask(lambda: client.get_container_client("c").get_container_properties())


def test_the_administrator_of_a_bucket_of_google_loses_nothing(google: Callable[..., Place]) -> None:
    report, seen = google().drill(Role.ADMINISTRATOR)
    assert report.failed == []
    for name in ("delete-version", "shorten", "downgrade", "remove-lock", "delete-bucket"):
        assert seen[name] == "refused", name
    assert seen["delete-marker"] == seen["overwrite"] == "accepted, nothing lost"


def test_a_bucket_of_google_without_locks_is_found_out(google: Callable[..., Place]) -> None:
    report, seen = google(locks=False).drill(Role.ADMINISTRATOR)
    assert "delete-version" in report.failed
    assert seen["delete-bucket"] == "not tried"


def test_an_outsider_with_the_rights_of_an_administrator_is_found_out(google: Callable[..., Place]) -> None:
    report, _ = google().drill(Role.OUTSIDER)
    assert {"delete-marker", "overwrite", "list", "read", "put", "extend"} <= set(report.failed)


# --- folders ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "vault"
    place.mkdir()
    yield place
    remove_tree(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="the immutable flag takes root")
def test_root_is_refused_by_the_kernel_and_may_lift_the_flag(folder: Path) -> None:
    place = Place(LocalStore(folder), files.attacks(folder), files.ask)
    report, seen = place.drill(Role.ADMINISTRATOR)
    assert report.failed == []
    assert {seen[name] for name in ("delete-version", "overwrite", "truncate", "rename", "remove-lock")} == {
        "refused"
    }
    assert seen["lift"] == "allowed"
    assert "lift" in place.drill(Role.OUTSIDER)[0].failed
    assert list(folder.rglob(".*.drill")) == []


def test_locks_that_are_advisory_are_found_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("donjon.stores.local.can_set_immutable", lambda _: False)
    place = Place(LocalStore(folder), files.attacks(folder), files.ask)
    report, seen = place.drill(Role.ADMINISTRATOR)
    assert {"delete-version", "overwrite", "truncate", "rename", "replace"} <= set(report.failed)
    assert seen["lift"] == "not tried"


def test_a_drill_by_the_command_on_a_folder(host: Donjon, tmp_path: Path) -> None:
    """The canaries are sound packs, which the reaper takes when their locks have ended."""
    host.init(lock="7d")
    (tmp_path / "file").write_text("something")
    host.run("backup", tmp_path / "file")
    before = host.json("verify", "--data", "100")
    is_root = os.geteuid() == 0
    done = host.json("drill", "attack", "--as", "administrator", code=0 if is_root else 4)
    assert done["passed"] is is_root
    (left,) = {left["object"] for left in done["stays"]} if is_root else ("",)
    report = host.json("verify", "--data", "100")
    assert (report["ok"], report["problems"]) == (True, [])
    assert report["packs"] == before["packs"] + is_root
    assert [one["kind"] for one in host.json("evidence", "list")["evidence"]] == ["attack-drill"]
    plan = tmp_path / "plan"
    later = host.later(3)  # the canary's lock has ended, those of the backup have not
    later.run("custody", "reap", "plan", "--out", plan)
    if is_root:
        assert left in plan.read_text()
    remove_tree(host.vault)


def test_only_s3_has_profiles(host: Donjon) -> None:
    host.init()
    error = host.run("drill", "attack", "--profile", "p", code=2).stderr.decode()
    assert "only S3 has profiles" in error
