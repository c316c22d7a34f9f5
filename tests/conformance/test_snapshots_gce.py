"""The suite of snapshots against disks of Compute Engine: Google's own client, and a fake behind it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donjon.core.clock import system_clock
from donjon.core.errors import CredentialsRejected, PermissionMissing, Refused, SnapshotFailed
from donjon.snapshots.gce_calls import Clients
from donjon.snapshots.gce_disk import GceDiskSnapshots
from donjon.snapshots.gce_labels import from_labels, to_labels
from donjon.testing.conformance.snapshots import CloudGround, CloudSnapshotTests, QuickTime
from donjon.testing.front import Answer
from donjon.testing.google.snapshots import GceSnapshotsFront, gce_snapshots

PROJECT, ZONE, REGION = "production", "europe-west1-b", "europe-west1"
READER = "serviceAccount:reader@backup.iam.gserviceaccount.com"


class Gce(CloudGround):
    front: GceSnapshotsFront
    snapshots: GceDiskSnapshots

    def __init__(self, front: GceSnapshotsFront, clients: Clients) -> None:
        self.front = front
        self.ahead = 0
        front.clock = lambda: system_clock() + self.ahead
        front.denied, front.holds, front.throttled = set(), False, 0
        front.snapshots.clear()
        self.snapshots = GceDiskSnapshots(
            clients, account=PROJECT, region=REGION, patience=QuickTime().patience
        )

    def make_volume(self, labels: dict[str, str] | None = None) -> str:
        name = f"d{os.urandom(6).hex()}"
        self.front.make_disk(ZONE, name, labels)
        return f"{ZONE}/{name}"

    def remove_volume(self, volume: str) -> None:
        del self.front.disks[ZONE, volume.partition("/")[2]]

    def make_foreign(self, volume: str) -> str:
        one = next(iter(self.front.snapshots.values()))
        self.front.snapshots["foreign"] = one | {"name": "foreign", "labels": {"made-by": "hand"}}
        return "foreign"

    def exists(self, snapshot_id: str) -> bool:
        return snapshot_id in self.front.snapshots

    def now(self) -> int:
        return self.front.clock()

    def hold(self) -> None:
        self.front.holds = True

    def fail(self, snapshot_id: str) -> None:
        self.front.snapshots[snapshot_id]["status"] = "FAILED"

    def vanish(self, snapshot_id: str) -> None:
        del self.front.snapshots[snapshot_id]

    def deny(self, action: str) -> str:
        self.front.denied.add(f"compute.snapshots.{action}")
        return f"compute.snapshots.{action}"

    def allow(self) -> None:
        self.front.denied.clear()

    def lose_reply(self) -> None:
        self.front.loses_next_insert = True

    def throttle(self, times: int) -> None:
        self.front.throttled = times


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[GceSnapshotsFront, Clients]]:
    with gce_snapshots(PROJECT) as server:
        yield server


@pytest.fixture
def ground(server: tuple[GceSnapshotsFront, Clients]) -> Gce:
    return Gce(*server)


class TestGceDisk(CloudSnapshotTests):
    @pytest.fixture
    def ground(self, ground: Gce) -> Gce:
        return ground


@given(st.dictionaries(st.sampled_from(["donjon-workload", "donjon-volume"]), st.text(max_size=60)))
def test_labels_say_what_tags_say(tags: dict[str, str]) -> None:
    labels = to_labels(tags)
    assert all(
        len(value) <= 63 and set(value) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
        for value in labels.values()
    )
    assert from_labels(labels, ("donjon-workload", "donjon-volume")) == tags


@pytest.mark.parametrize("value", ["_", "_zz", "_F0", "A", "_ff", "_c3"])
def test_labels_that_were_made_up_are_no_tags(value: str) -> None:
    assert from_labels({"donjon-workload": value}, ("donjon-workload",)) == {}


def test_disks_are_selected_by_name_and_labels(ground: Gce) -> None:
    plain = ground.make_volume()
    tagged = ground.make_volume({"app": "x", "tier": "1"})
    assert ground.snapshots.select(zone=ZONE, labels={"app": "x", "tier": "1"}) == [tagged]
    name = plain.partition("/")[2]
    assert ground.snapshots.select(zone=ZONE, disks=[name], labels={"app": "x"}) == sorted([plain, tagged])
    with pytest.raises(SnapshotFailed, match="no disk has the labels"):
        ground.snapshots.select(zone=ZONE, labels={"app": "y"})
    with pytest.raises(SnapshotFailed, match="is not there"):
        ground.snapshots.select(zone=ZONE, disks=["nothing"])


def test_data_is_kept_in_the_region_of_the_site(ground: Gce) -> None:
    ground.snapshots.create([ground.make_volume()], workload="web", set_id="s1")
    (one,) = ground.front.snapshots.values()
    assert one["storageLocations"] == [REGION]


def test_an_order_whose_work_fails_says_why_and_may_be_given_later(ground: Gce) -> None:
    volume = ground.make_volume()
    for number in range(6):
        ground.snapshots.create([volume], workload="often", set_id=f"s{number}")
    with pytest.raises(SnapshotFailed, match="RESOURCE_OPERATION_RATE_EXCEEDED") as caught:
        ground.snapshots.create([volume], workload="often", set_id="s7")
    assert caught.value.retryable
    ground.ahead = 3601
    ground.snapshots.create([volume], workload="often", set_id="s7")


def test_a_deletion_whose_work_fails_is_told(ground: Gce) -> None:
    (one,) = ground.snapshots.create([ground.make_volume()], workload="web", set_id="s1")
    ground.front.keeps_deleted = True
    with pytest.raises(SnapshotFailed, match="not deleted: RESOURCE_NOT_READY") as caught:
        ground.snapshots.delete(one)
    assert caught.value.retryable
    ground.front.keeps_deleted = False
    ground.snapshots.delete(one)
    assert not ground.exists(one.snapshot_id)


@pytest.mark.parametrize("permission", ["compute.disks.createSnapshot", "compute.snapshots.setLabels"])
def test_each_permission_of_taking_one_is_named(ground: Gce, permission: str) -> None:
    ground.front.denied.add(permission)
    with pytest.raises(PermissionMissing, match=permission):
        ground.snapshots.create([ground.make_volume()], workload="web", set_id="s1")
    assert ground.front.snapshots == {}


def test_one_is_shared_with_a_principal_for_reading_alone(ground: Gce) -> None:
    (one,) = ground.snapshots.create([ground.make_volume()], workload="web", set_id="s1")
    for _ in range(2):
        ground.snapshots.share(one, READER)
    ground.snapshots.share(one, "user:somebody@example.org")
    role = f"projects/{PROJECT}/roles/donjonSnapshotReader"
    bindings = ground.front.policies[one.snapshot_id]["bindings"]
    assert bindings == [{"role": role, "members": [READER, "user:somebody@example.org"]}]
    with pytest.raises(Refused, match="is none"):
        ground.snapshots.share(one, "backup")


def test_a_policy_that_somebody_changed_in_between_loses_nothing(ground: Gce) -> None:
    (one,) = ground.snapshots.create([ground.make_volume()], workload="web", set_id="s1")
    handle = ground.front.handle
    done: list[int] = []

    def changed(request: object, carry_out: object) -> Answer:
        if not done and request.path.endswith("/setIamPolicy"):  # type: ignore[attr-defined]
            done.append(1)
            others = {"role": "roles/viewer", "members": ["user:other@example.org"]}
            ground.front.policies[one.snapshot_id] = {"bindings": [others], "etag": "BBBB", "version": 1}
        return handle(request)  # type: ignore[arg-type]

    ground.front.trouble = changed
    try:
        ground.snapshots.share(one, READER)
    finally:
        ground.front.trouble = None
    assert done
    assert {b["role"] for b in ground.front.policies[one.snapshot_id]["bindings"]} == {
        "roles/viewer",
        f"projects/{PROJECT}/roles/donjonSnapshotReader",
    }


def test_a_token_that_is_not_taken_is_told(ground: Gce) -> None:
    ground.front.next_answers.append(Answer(401, b"{}"))
    with pytest.raises(CredentialsRejected):
        list(ground.snapshots.list())


def test_an_answer_that_makes_no_sense_is_an_error_of_ours(ground: Gce) -> None:
    ground.front.next_answers.append(Answer(400, b"<html>"))
    with pytest.raises(SnapshotFailed):
        list(ground.snapshots.list())
