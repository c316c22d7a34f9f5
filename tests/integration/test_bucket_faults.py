"""Buckets behind a way that fails, and older versions at the providers that have no delete markers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from donjon.clouds.objects.address import BucketAddress
from donjon.clouds.objects.azure import AzureObjects
from donjon.clouds.objects.base import Metadata
from donjon.clouds.objects.gcs import GcsObjects
from donjon.clouds.objects.s3 import S3Objects
from donjon.core.clock import system_clock
from donjon.core.errors import SourceFailed
from donjon.core.pace import Pace
from donjon.testing.aws.microburst import Microburst, microburst
from donjon.testing.aws.seaweedfs import seaweedfs
from donjon.testing.azure.account import ACCOUNT, azure, azurite
from donjon.testing.google.bucket import fake_gcs_server, gcs
from donjon.testing.servers.ports import free_port
from tests.clouds import new_bucket, new_container
from tests.integration.buckets import Meddled, backup, entries, put_all
from tests.integration.engine import Place

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Microburst]:
    port = free_port()
    folder = tmp_path_factory.mktemp("seaweedfs")
    with (
        pytest.MonkeyPatch.context() as patch,
        seaweedfs(folder, f"http://127.0.0.1:{port}") as server,
        microburst(server.endpoint, port) as made,
    ):
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture
def objects(proxy: Microburst) -> Iterator[S3Objects]:
    pace = Pace(sleep=lambda _: None)
    made = S3Objects(BucketAddress.parse(f"s3://bucket{next(_numbers)}?endpoint={proxy.url}"), pace)
    proxy.set([])
    made._client.create_bucket(Bucket=made._bucket)
    yield made
    made.close()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path / "place")


#: What happens to requests, and how often. All of it passes once it is tried again, or is noticed by the MD5.
FAULTS = {
    "throttled": {"sequence": {"fail": 2, "pass": 3}, "error": {"code": "SlowDown", "status": 503}},
    "failing": {"sequence": {"fail": 1, "pass": 2}, "error": {"code": "InternalError", "status": 500}},
    "reset": {"sequence": {"fail": 1, "pass": 2}, "reset": True},
    "cut off": {
        "sequence": {"fail": 1, "pass": 2}, "operation": "GetObject", "response": {"abort_frac": 0.5},
    },
    "changed": {
        "sequence": {"fail": 1, "pass": 3}, "operation": "GetObject", "response": {"corrupt_bytes": 1},
    },
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_faults_on_the_way_are_tried_again(
    objects: S3Objects, proxy: Microburst, place: Place, tmp_path: Path, fault: dict[str, Any]
) -> None:
    wanted = {f"k{number}": b"%d" % number * 100 for number in range(40)}
    put_all(objects, wanted)
    proxy.set([fault])
    outcome = backup(place, objects, threads=1)
    assert proxy.fired() >= 3
    proxy.set([])
    assert outcome.counts.problems == []
    place.restore(tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out/objects").iterdir()} == wanted


def test_a_server_that_never_recovers_ends_it_and_nothing_is_committed(
    objects: S3Objects, proxy: Microburst, place: Place
) -> None:
    put_all(objects, {"a": b"1"})
    proxy.set([{"operation": "GetObject", "error": {"code": "SlowDown", "status": 503}}])
    with pytest.raises(SourceFailed) as caught:
        backup(place, objects)
    proxy.set([])
    assert caught.value.retryable
    assert place.points() == []


def test_older_versions_of_azure(place: Place, tmp_path: Path) -> None:
    with azurite() as port, azure(port, system_clock) as (front, connection):
        name = new_container(front, locks=False)
        objects = AzureObjects(BucketAddress.parse(f"azure://{ACCOUNT}/{name}"), connection_string=connection)
        for text in (b"one", b"two", b"three"):
            objects.put("d/a", text, Metadata(), replace=True)
        check_history(place, Meddled(objects), tmp_path)
        objects.close()


def test_older_versions_of_google(place: Place, tmp_path: Path) -> None:
    with fake_gcs_server() as port, gcs(port, system_clock) as (_, client):
        objects = GcsObjects(BucketAddress.parse(f"gs://{new_bucket(client, locks=False)}"), client=client)
        for text in (b"one", b"two", b"three"):
            objects.put("d/a", text, Metadata(), replace=True)
        check_history(place, Meddled(objects), tmp_path)


def check_history(place: Place, objects: Meddled, tmp_path: Path) -> None:
    """``one`` and ``two`` are older, ``three`` is current, and nothing is read twice."""
    assert backup(place, objects, versions=True).counts.problems == []
    place.restore(tmp_path / "out")
    older = sorted(path for path in entries(place) if path.startswith(b"versions/d/a/"))
    assert [(tmp_path / "out" / os.fsdecode(path)).read_bytes() for path in older] == [b"one", b"two"]
    assert (tmp_path / "out/objects/d/a").read_bytes() == b"three"
    before = len(objects.reads)
    backup(place, objects, versions=True)
    assert len(objects.reads) == before
