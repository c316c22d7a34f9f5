"""The suite of snapshots against managed disks of Azure: Azure's own client, and a fake behind it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from donjon.core.clock import system_clock
from donjon.core.errors import CredentialsRejected, ObjectLocked, Refused, SnapshotFailed
from donjon.snapshots.azure_disk import AzureDiskSnapshots
from donjon.snapshots.base import SnapshotState
from donjon.snapshots.marks import Marks
from donjon.testing.azure.snapshots import AzureSnapshotsFront, azure_snapshots
from donjon.testing.conformance.snapshots import CloudGround, CloudSnapshotTests, QuickTime
from donjon.testing.front import Answer

PRODUCTION = "00000000-0000-0000-0000-00000000000a"
BACKUP = "00000000-0000-0000-0000-00000000000b"
HOME, AWAY = "westeurope", "northeurope"
KEY = f"/subscriptions/{BACKUP}/resourceGroups/rg/providers/Microsoft.Compute/diskEncryptionSets/backup"
DAY = 86_400


class AzureDisks(CloudGround):
    """A subscription of production, and one of backups in another region."""

    locks = True
    key = KEY
    front: AzureSnapshotsFront
    snapshots: AzureDiskSnapshots
    elsewhere: AzureDiskSnapshots

    def __init__(self, front: AzureSnapshotsFront, clients: dict[str, Any]) -> None:
        self.front = front
        self.ahead = 0
        front.clock = lambda: system_clock() + self.ahead
        front.denied, front.holds, front.throttled = set(), False, 0
        front.snapshots.clear()
        patience = QuickTime().patience
        self.snapshots = AzureDiskSnapshots(
            clients[PRODUCTION], account=PRODUCTION, region=HOME, resource_group="RG", patience=patience
        )
        self.elsewhere = AzureDiskSnapshots(
            clients[BACKUP], account=BACKUP, region=AWAY, resource_group="vault", patience=patience
        )

    def make_volume(self, **more: Any) -> str:
        name = f"d{os.urandom(6).hex()}"
        self.front.make_disk(PRODUCTION, "RG", name, HOME, **more)
        return f"RG/{name}"

    def remove_volume(self, volume: str) -> None:
        found = [arm for arm in self.front.disks if arm.endswith(volume.partition("/")[2])]
        del self.front.disks[found[0]]

    def make_foreign(self, volume: str) -> str:
        (own,) = [one for one in self.front.snapshots.values() if one["tags"]["donjon-volume"] == volume]
        foreign = own | {"name": "foreign", "tags": {"made-by": "hand"}, "id": own["id"] + "x"}
        arm = own["id"].rpartition("/")[0] + "/foreign"
        self.front.snapshots[arm.lower()] = foreign
        return "RG/foreign"

    def exists(self, snapshot_id: str) -> bool:
        return any(arm.endswith("/" + snapshot_id.partition("/")[2].lower()) for arm in self.front.snapshots)

    def now(self) -> int:
        return self.front.clock()

    def advance(self, seconds: int) -> None:
        self.ahead += seconds

    def hold(self) -> None:
        self.front.holds = True

    def _of(self, snapshot_id: str) -> str:
        name = snapshot_id.partition("/")[2].lower()
        return next(arm for arm in self.front.snapshots if arm.endswith(name))

    def fail(self, snapshot_id: str) -> None:
        self.front.snapshots[self._of(snapshot_id)]["properties"]["provisioningState"] = "Failed"

    def vanish(self, snapshot_id: str) -> None:
        del self.front.snapshots[self._of(snapshot_id)]

    def deny(self, action: str) -> str:
        verb = {"create": "write", "list": "read", "delete": "delete"}[action]
        self.front.denied.add(f"Microsoft.Compute/snapshots/{verb}")
        return f"Microsoft.Compute/snapshots/{verb}"

    def allow(self) -> None:
        self.front.denied.clear()

    def lose_reply(self) -> None:
        self.front.loses_next_put = True

    def throttle(self, times: int) -> None:
        self.front.throttled = times


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[AzureSnapshotsFront, dict[str, Any]]]:
    with azure_snapshots() as (front, client):
        yield front, {name: client(name) for name in (PRODUCTION, BACKUP)}


@pytest.fixture
def ground(server: tuple[AzureSnapshotsFront, dict[str, Any]]) -> AzureDisks:
    return AzureDisks(*server)


class TestAzureDisk(CloudSnapshotTests):
    @pytest.fixture
    def ground(self, ground: AzureDisks) -> AzureDisks:
        return ground


def test_disks_are_selected_by_name_and_tags(ground: AzureDisks) -> None:
    plain = ground.make_volume()
    tagged = ground.make_volume(tags={"app": "x", "tier": "1"})
    assert ground.snapshots.select(tags={"app": "x"}) == [tagged]
    name = plain.partition("/")[2]
    assert ground.snapshots.select(disks=[name], tags={"app": "x"}) == sorted([plain, tagged])
    with pytest.raises(SnapshotFailed, match="no disk has the tags"):
        ground.snapshots.select(tags={"app": "y"})
    with pytest.raises(SnapshotFailed, match="is not there"):
        ground.snapshots.select(disks=["nothing"])


def test_a_disk_in_another_region_is_told(ground: AzureDisks) -> None:
    ground.front.make_disk(PRODUCTION, "RG", "far", AWAY)
    with pytest.raises(SnapshotFailed, match="is in northeurope") as caught:
        ground.snapshots.create(["RG/far"], workload="web", set_id="s1")
    assert "region" in caught.value.hint


def test_a_region_may_be_written_as_people_do(ground: AzureDisks) -> None:
    ground.snapshots.region = "West Europe"  # type: ignore[misc]
    ground.front.make_disk(PRODUCTION, "RG", "near", "West Europe")
    ground.snapshots.create(["RG/near"], workload="web", set_id="s1")
    assert len(list(ground.snapshots.list("web"))) == 1


def test_too_many_in_five_minutes_may_be_tried_later(ground: AzureDisks) -> None:
    volume = ground.make_volume()
    for number in range(7):
        ground.snapshots.create([volume], workload="often", set_id=f"s{number}")
    with pytest.raises(SnapshotFailed) as caught:
        ground.snapshots.create([volume], workload="often", set_id="s8")
    assert caught.value.retryable
    ground.advance(301)
    ground.snapshots.create([volume], workload="often", set_id="s8")


def test_copies_of_a_disk_follow_each_other_in_their_order(ground: AzureDisks) -> None:
    volume = ground.make_volume()
    (first,) = ground.snapshots.create([volume], workload="web", set_id="s1")
    ground.advance(400)
    (second,) = ground.snapshots.create([volume], workload="web", set_id="s2")
    copy = ground.elsewhere.copy(first)
    with pytest.raises(SnapshotFailed, match="under way") as caught:
        ground.elsewhere.copy(second)
    assert caught.value.retryable
    ground.elsewhere.wait([copy], timeout_s=600)
    ground.elsewhere.wait([ground.elsewhere.copy(second)], timeout_s=600)
    assert len(list(ground.elsewhere.list("web"))) == 2


def test_a_copy_whose_source_is_deleted_fails(ground: AzureDisks) -> None:
    (one,) = ground.snapshots.create([ground.make_volume()], workload="web", set_id="s1")
    copy = ground.elsewhere.copy(one)
    ground.front.holds = True
    ground.snapshots.delete(one)
    with pytest.raises(SnapshotFailed, match="The source was deleted"):
        ground.elsewhere.wait([copy], timeout_s=600)
    assert [found.state for found in ground.elsewhere.list("web")] == [SnapshotState.FAILED]


def test_a_copy_in_the_same_region_is_a_plain_one(ground: AzureDisks) -> None:
    (one,) = ground.snapshots.create([ground.make_volume()], workload="web", set_id="s1")
    ground.elsewhere.region = HOME  # type: ignore[misc]
    (done,) = ground.elsewhere.wait([ground.elsewhere.copy(one)], timeout_s=600)
    assert (done.account, done.region) == (BACKUP, HOME)


def test_a_locked_policy_is_only_extended_and_never_unlocked_on_the_way(ground: AzureDisks) -> None:
    (one,) = ground.snapshots.create([ground.make_volume()], workload="kept", set_id="s1")
    ground.advance(5 * DAY)  # the start of the policy is another one than that of the snapshot
    until = ground.now() + 3 * DAY
    locked = ground.snapshots.lock(one, retain_until=until)
    assert locked.locked_until >= until
    policy = next(iter(ground.front.snapshots.values()))["properties"]["immutabilityPolicy"]
    assert policy["type"] == "Locked"
    ground.front.requests.clear()
    ground.snapshots.lock(one, retain_until=until + 30 * DAY)
    posts = [request.path.rpartition("/")[2] for request in ground.front.requests if request.method == "POST"]
    assert posts == ["updateImmutabilityPolicyLock"]


def test_a_lock_that_stopped_half_way_is_finished(ground: AzureDisks) -> None:
    (one,) = ground.snapshots.create([ground.make_volume()], workload="kept", set_id="s1")
    ground.front.denied.add("Microsoft.Compute/snapshots/updateImmutabilityPolicyLock/action")
    with pytest.raises(Exception, match="updateImmutabilityPolicyLock"):
        ground.snapshots.lock(one, retain_until=ground.now() + 3 * DAY)
    ground.allow()
    assert ground.snapshots.lock(one, retain_until=ground.now() + 3 * DAY).locked_until
    with pytest.raises(ObjectLocked):
        ground.snapshots.delete(one)


def test_a_name_that_somebody_else_took_is_refused(ground: AzureDisks) -> None:
    volume = ground.make_volume()
    (one,) = ground.snapshots.create([volume], workload="web", set_id="s1")
    ground.front.snapshots[ground._of(one.snapshot_id)]["tags"] = {}
    with pytest.raises(Refused, match="has not the marks"):
        ground.snapshots.create([volume], workload="web", set_id="s1")
    assert ground.exists(one.snapshot_id)


def test_a_token_that_is_not_taken_is_told(ground: AzureDisks) -> None:
    ground.front.next_answers.append(Answer(401, b"{}"))
    with pytest.raises(CredentialsRejected):
        list(ground.snapshots.list())


def test_an_answer_that_makes_no_sense_is_an_error_of_ours(ground: AzureDisks) -> None:
    ground.front.next_answers.append(Answer(400, b"<html>"))
    with pytest.raises(SnapshotFailed):
        list(ground.snapshots.list())


def test_what_lacks_everything_is_not_taken_for_a_good_snapshot(ground: AzureDisks) -> None:
    marks = Marks("web", "s1", 1, "RG/d", "RG/d").tags
    said = [
        {},
        {"name": "a", "tags": None, "location": HOME},
        {"name": "b", "tags": marks},
        {"name": "c", "tags": marks, "location": HOME},
        {"name": "d", "tags": marks, "location": HOME, "properties": {"timeCreated": "yesterday"}},
    ]
    ground.front.next_answers.append(
        Answer(200, json.dumps({"value": said}).encode(), {"content-type": "application/json"})
    )
    found = list(ground.snapshots.list())
    assert [one.snapshot_id for one in found] == ["RG/c", "RG/d"]
    assert {one.state for one in found} == {SnapshotState.PENDING}
    assert {one.created_at for one in found} == {0}
