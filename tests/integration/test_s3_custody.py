"""Custody on a real S3 server, whose listings tell no locks: one request an object, and locks that hold."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import unquote

import pytest

from donjon.core.errors import UsageError
from donjon.core.events import Silent
from donjon.custody.extending import Extender
from donjon.custody.extension import due_objects, plan_extension
from donjon.custody.inventory import Inventory, take_inventory
from donjon.custody.reaper import reap
from donjon.custody.reaping import PACK, Doomed, plan_reaping
from donjon.custody.standing import Standing, find_standings
from donjon.format import names
from donjon.plan.retention import Policy
from donjon.repository.cache import Cache
from donjon.repository.epochs import read_epochs
from donjon.repository.points import list_points
from donjon.stores.first_versions import FirstVersions
from donjon.stores.observe import ObservingStore
from donjon.stores.s3 import S3Store
from donjon.stores.s3.batch import batch_manifest
from donjon.testing.aws.seaweedfs import SeaweedFs
from tests.integration.engine import DAY
from tests.integration.witnesses import Watched

LOCK = 30 * DAY


def _bucket(server: SeaweedFs, watched: Watched) -> S3Store:
    """The vault, which was made in memory, moved into a bucket with the locks that it has."""
    store = S3Store(server.url(server.make_bucket()))
    for info in watched.place.store.list():
        end = (info.retain_until or 0) - watched.place.clock() + store.now()
        store.put(info.name, watched.place.store.get(info.name), retain_until=end)
    return store


def test_every_object_is_extended_by_one_request(s3_server: SeaweedFs, tmp_path: Path) -> None:
    watched = Watched.make(tmp_path, lock_s=LOCK)
    watched.backup(2)
    store = _bucket(s3_server, watched)
    counting = ObservingStore(store)
    vault = watched.place.open(FirstVersions(counting))
    cache = Cache(tmp_path / "cache")

    def look() -> tuple[Inventory, list[Standing]]:
        points = list_points(vault)
        inventory = take_inventory(vault, cache, Silent())
        return inventory, find_standings(points, inventory, vault.keyring, Policy())

    inventory, standings = look()
    assert plan_extension(inventory, standings, 6 * DAY).requests == 0
    plan = plan_extension(inventory, standings, -10 * DAY)  # as if all of it was due
    assert plan.requests == inventory.objects > 8
    plan.until += 10 * DAY
    before = counting.report()
    time.sleep(1.1)  # so that another time would show
    done = Extender(vault, watched.custodians[0], inventory, plan, Silent()).run(standings)
    after = counting.report()
    assert (done.objects, done.debt, done.failed) == (plan.requests, 0, [])
    assert after["extend"].calls == plan.requests
    assert after["head"].calls == (before["head"].calls if "head" in before else 0) + 1
    assert not done.keeps_times  # SeaweedFS gives them the time of the extension
    for info in store.list():
        if not info.name.startswith(names.EPOCHS):
            assert store.head(info.name).retain_until == plan.until
    inventory, standings = look()  # a second look knows it from the epoch object
    assert plan_extension(inventory, standings, -9 * DAY).requests == 0

    fresh = plan_reaping(inventory, standings)
    assert fresh.doomed == []
    everything = [Doomed(i.name, i.version, i.size_bytes, PACK) for i in store.list(names.PACKS)]
    fresh.needed = type(fresh.needed)()  # as if the reaper had been talked into it
    reaped = reap(vault, fresh, everything, Silent())
    assert reaped.deleted == 0
    assert all("locked until" in reason for _, reason in reaped.kept)


def test_a_job_of_the_provider_may_do_the_work(s3_server: SeaweedFs, tmp_path: Path) -> None:
    """It locks what the manifest of the job names; a look afterwards finds it, and locks only the points."""
    watched = Watched.make(tmp_path, lock_s=LOCK)
    watched.backup(2)
    store = _bucket(s3_server, watched)
    counting = ObservingStore(store)
    vault = watched.place.open(FirstVersions(counting))
    cache = Cache(tmp_path / "cache")
    points = list_points(vault)
    inventory = take_inventory(vault, cache, Silent())
    standings = find_standings(points, inventory, vault.keyring, Policy())
    plan = plan_extension(inventory, standings, -10 * DAY)
    plan.until += 12 * DAY
    due = [(item.name, item.version) for item in due_objects(inventory, plan)]
    lines = list(batch_manifest(store.url, due))
    assert len(lines) == plan.requests - 2  # all but the manifests of the points
    client, until = s3_server.client(), plan.until
    for line in lines:
        bucket, key, version = line.rstrip("\n").split(",")
        assert not unquote(key).startswith(names.MANIFESTS)
        retention = {"Mode": "COMPLIANCE", "RetainUntilDate": until - DAY}
        client.put_object_retention(Bucket=bucket, Key=unquote(key), VersionId=version, Retention=retention)
    extender = Extender(vault, watched.custodians[0], inventory, plan, Silent(), look_first=True)
    done = extender.run(standings)
    assert (done.objects, done.debt) == (plan.requests, 0)
    assert counting.report()["extend"].calls == 2
    ends = read_epochs(vault, cache)
    assert ends.name(points[0].name) == ends.pack(next(iter(points[0].uses))) == until - DAY


def test_a_manifest_of_a_job_has_versions_and_encoded_keys() -> None:
    url = "s3://my-bucket/some/prefix?endpoint=http://127.0.0.1:1"
    assert list(batch_manifest(url, [("packs/aa/x", "v 1")])) == ["my-bucket,some/prefix/packs/aa/x,v 1\n"]
    with pytest.raises(UsageError, match="has no version"):
        list(batch_manifest(url, [("packs/aa/x", None)]))
