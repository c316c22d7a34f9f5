"""The suite of snapshots against EBS: moto, and a front of ours with what moto lacks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from donjon.core.clock import system_clock
from donjon.core.errors import ObjectLocked, PermissionMissing, Refused, SnapshotFailed
from donjon.roles.snapshotter import TASKS, Snapshotter, render
from donjon.snapshots.ebs import EbsSnapshots
from donjon.testing.aws.ec2_front import Ec2Front, ec2_front
from donjon.testing.aws.ministack import PRODUCTION, MiniStack, ministack
from donjon.testing.aws.moto import moto
from donjon.testing.aws.people import User
from donjon.testing.conformance.snapshots import CloudGround, CloudSnapshotTests, QuickTime

ACCOUNT = "123456789012"  # moto's
HOME, AWAY = "us-east-1", "eu-west-1"
KEY = f"arn:aws:kms:{AWAY}:{ACCOUNT}:key/00000000-0000-0000-0000-000000000001"
DAY = 86_400


class Ebs(CloudGround):
    """EC2 in two regions, each with a client of its own."""

    locks = True
    key = KEY

    front: Ec2Front
    snapshots: EbsSnapshots
    elsewhere: EbsSnapshots

    def __init__(self, front: Ec2Front, home: Any, away: Any) -> None:
        self.front = front
        self.front.clock = lambda: system_clock() + self.ahead
        self.front.denied, self.front.holds, self.front.throttled = set(), False, 0
        self.ahead = 0
        self.client, self.away = home, away
        patience = QuickTime().patience
        self.snapshots = EbsSnapshots(self.client, account=ACCOUNT, region=HOME, patience=patience)
        self.elsewhere = EbsSnapshots(self.away, account=ACCOUNT, region=AWAY, patience=patience)

    def make_volume(self, **more: Any) -> str:
        made = self.client.create_volume(Size=1, AvailabilityZone=f"{HOME}a", **more)
        return str(made["VolumeId"])

    def make_instance(self, data_volumes: int) -> tuple[str, str, list[str]]:
        """An instance, the volume that it starts from, and further ones."""
        made = self.client.run_instances(ImageId="ami-03cf127a", MinCount=1, MaxCount=1)["Instances"][0]
        boot = made["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
        data = [self.make_volume() for _ in range(data_volumes)]
        for number, volume in enumerate(data):
            device = f"/dev/sd{'fghij'[number]}"
            self.client.attach_volume(VolumeId=volume, InstanceId=made["InstanceId"], Device=device)
        return made["InstanceId"], boot, data

    def remove_volume(self, volume: str) -> None:
        self.client.delete_volume(VolumeId=volume)

    def make_foreign(self, volume: str) -> str:
        return str(self.client.create_snapshot(VolumeId=volume)["SnapshotId"])

    def exists(self, snapshot_id: str) -> bool:
        wanted = [{"Name": "snapshot-id", "Values": [snapshot_id]}]
        return bool(self.client.describe_snapshots(Filters=wanted)["Snapshots"])

    def now(self) -> int:
        return self.front.clock()

    def advance(self, seconds: int) -> None:
        self.ahead += seconds

    def hold(self) -> None:
        self.front.holds = True

    def fail(self, snapshot_id: str) -> None:
        self.front.of(snapshot_id).state = "error"

    def vanish(self, snapshot_id: str) -> None:
        self.client.delete_snapshot(SnapshotId=snapshot_id)

    def deny(self, action: str) -> str:
        permission = {
            "create": "ec2:CreateSnapshot",
            "list": "ec2:DescribeSnapshots",
            "delete": "ec2:DeleteSnapshot",
        }[action]
        self.front.denied.add(permission)
        return permission

    def allow(self) -> None:
        self.front.denied.clear()

    def lose_reply(self) -> None:
        self.front.loses.add("CreateSnapshot")

    def throttle(self, times: int) -> None:
        self.front.throttled = times


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ec2Front, Any, Any]]:
    user = User("somebody", "AKIAEXAMPLE", "secret")
    with moto(tmp_path_factory.mktemp("moto")) as url, ec2_front(url) as (front, address):
        yield front, user.client("ec2", address, HOME), user.client("ec2", address, AWAY)


@pytest.fixture
def ground(server: tuple[Ec2Front, Any, Any]) -> Iterator[Ebs]:
    ground = Ebs(*server)
    yield ground
    ground.front.known.clear()  # also the locks, so that what a test made can go
    ground.front.denied, ground.front.throttled = set(), 0
    for one in (ground.snapshots, ground.elsewhere):
        for snapshot in list(one.list()):
            one.delete(snapshot)


class TestEbs(CloudSnapshotTests):
    @pytest.fixture
    def ground(self, ground: Ebs) -> Ebs:
        return ground


def _asked(front: Ec2Front, action: str) -> list[str]:
    return [one.body.decode() for one in front.requests if f"Action={action}&" in one.body.decode()]


def test_all_volumes_of_an_instance_are_taken_by_one_request(ground: Ebs) -> None:
    instance, boot, data = ground.make_instance(3)
    ground.front.requests.clear()
    made = ground.snapshots.create([boot, *data], workload="vm", set_id="s1")
    assert {one.moment for one in made} == {instance}
    assert len(_asked(ground.front, "CreateSnapshots")) == 1
    assert _asked(ground.front, "CreateSnapshot") == []


def test_volumes_of_an_instance_that_nobody_wants_are_left_out(ground: Ebs) -> None:
    instance, _, data = ground.make_instance(3)
    made = ground.snapshots.create(data[:2], workload="vm", set_id="s1")
    assert [one.volume_id for one in made] == data[:2]
    assert {one.moment for one in made} == {instance}
    assert len(list(ground.snapshots.list("vm"))) == 2


def test_volumes_of_several_instances_are_of_several_moments(ground: Ebs) -> None:
    (first, _, one), (second, _, two) = ground.make_instance(2), ground.make_instance(2)
    alone = ground.make_volume()
    made = ground.snapshots.create([*one, alone, *two], workload="vm", set_id="s1")
    assert [found.moment for found in made] == [first, first, alone, second, second]
    assert {found.set_size for found in made} == {5}


def test_a_lost_answer_to_a_set_takes_nothing_twice(ground: Ebs) -> None:
    _, boot, data = ground.make_instance(1)
    ground.front.loses.add("CreateSnapshots")
    made = ground.snapshots.create([boot, *data], workload="vm", set_id="s1")
    assert sorted(map(str, made)) == sorted(map(str, ground.snapshots.list("vm")))
    assert len(_asked(ground.front, "CreateSnapshots")) >= 1


def test_volumes_are_selected_by_id_instance_and_tags(ground: Ebs) -> None:
    instance, boot, data = ground.make_instance(1)
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "app", "Value": "x"}, {"Key": "tier", "Value": "1"}]}]
    tagged = ground.make_volume(TagSpecifications=tags)
    assert ground.snapshots.select(instances=[instance]) == sorted([boot, *data])
    assert ground.snapshots.select(tags={"app": "x", "tier": "1"}) == [tagged]
    assert ground.snapshots.select(volumes=[tagged], instances=[instance]) == sorted([boot, *data, tagged])
    with pytest.raises(SnapshotFailed, match="nothing has the tags"):
        ground.snapshots.select(tags={"app": "x", "tier": "2"})
    with pytest.raises(SnapshotFailed, match="there is no such"):
        ground.snapshots.select(volumes=["vol-00000000000000000"])


def test_one_that_an_image_uses_is_not_deleted(ground: Ebs) -> None:
    (one,) = ground.snapshots.create([ground.make_volume()], workload="used", set_id="s1")
    ground.front.of(one.snapshot_id).in_use = True
    with pytest.raises(Refused, match="in use"):
        ground.snapshots.delete(one)
    assert ground.exists(one.snapshot_id)


def test_one_under_the_key_of_aws_is_not_shared_and_one_under_an_own_key_is(ground: Ebs) -> None:
    (one,) = ground.snapshots.create([ground.make_volume(Encrypted=True)], workload="secret", set_id="s1")
    with pytest.raises(Refused, match="cannot be shared") as caught:
        ground.snapshots.share(one, "210987654321")
    assert "key of your own" in caught.value.hint
    key = KEY.replace(AWAY, HOME)
    volume = ground.make_volume(Encrypted=True, KmsKeyId=key)
    (own,) = ground.snapshots.create([volume], workload="secret", set_id="s2")
    assert own.key == key
    for _ in range(2):
        ground.snapshots.share(own, "210987654321")
    said = ground.client.describe_snapshot_attribute(
        SnapshotId=own.snapshot_id, Attribute="createVolumePermission"
    )
    assert said["CreateVolumePermissions"] == [{"UserId": "210987654321"}]


def test_a_lock_can_be_taken_off_during_its_cool_off_and_not_after(ground: Ebs) -> None:
    careful = EbsSnapshots(
        ground.client, account=ACCOUNT, region=HOME, cool_off_hours=2, patience=QuickTime().patience
    )
    (one,) = careful.create([ground.make_volume()], workload="cool", set_id="s1")
    careful.lock(one, retain_until=ground.now() + 10 * DAY)
    ground.client.unlock_snapshot(SnapshotId=one.snapshot_id)
    careful.lock(one, retain_until=ground.now() + 10 * DAY)
    ground.advance(3 * 3600)
    careful.lock(one, retain_until=ground.now() + 20 * DAY)  # without another cool-off, which EC2 refuses
    with pytest.raises(ground.client.exceptions.ClientError):
        ground.client.unlock_snapshot(SnapshotId=one.snapshot_id)
    with pytest.raises(ObjectLocked):
        careful.delete(one)


def test_a_governance_lock_of_somebody_else_becomes_one_that_nobody_takes_off(ground: Ebs) -> None:
    (one,) = ground.snapshots.create([ground.make_volume()], workload="gov", set_id="s1")
    ground.client.lock_snapshot(SnapshotId=one.snapshot_id, LockMode="governance", LockDuration=30)
    locked = ground.snapshots.lock(one, retain_until=ground.now() + DAY)
    assert locked.locked_until >= ground.now() + 29 * DAY
    with pytest.raises(ground.client.exceptions.ClientError):
        ground.client.unlock_snapshot(SnapshotId=one.snapshot_id)


def test_no_answer_at_all_is_an_error_of_ours(ground: Ebs) -> None:
    nobody = User("nobody", "AKIAEXAMPLE", "s").client("ec2", "http://127.0.0.1:9", HOME)
    away = EbsSnapshots(nobody, account=ACCOUNT, region=HOME, patience=QuickTime().patience)
    with pytest.raises(SnapshotFailed) as caught:
        list(away.list())
    assert caught.value.retryable


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniStack]:
    with ministack(tmp_path_factory.mktemp("ministack")) as server:
        yield server


def test_a_credential_that_may_list_alone_is_told_what_it_lacks(accounts: MiniStack) -> None:
    """Real permissions: MiniStack judges policies. It has no locks, so those are looked at nowhere here."""
    root = accounts.client("ec2", accounts.root(PRODUCTION))
    volume = root.create_volume(Size=1, AvailabilityZone=f"{HOME}a")["VolumeId"]
    allowed = ["ec2:DescribeVolumes", "ec2:DescribeSnapshots"]
    statement = {"Effect": "Allow", "Action": allowed, "Resource": "*"}
    user = accounts.make_user({"Version": "2012-10-17", "Statement": [statement]}, PRODUCTION)
    snapshots = EbsSnapshots(
        user.client("ec2", accounts.endpoint), account=PRODUCTION, region=HOME, patience=QuickTime().patience
    )
    with pytest.raises(PermissionMissing, match="ec2:CreateSnapshot"):
        snapshots.create([volume], workload="web", set_id="s1")
    assert root.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []


def test_the_rendered_snapshotter_takes_what_it_marks_and_touches_nothing_else(accounts: MiniStack) -> None:
    """MiniStack judges one resource of a request and no tags of snapshots: it tells its own not apart."""
    root = accounts.client("ec2", accounts.root(PRODUCTION))
    volume = root.create_volume(Size=1, AvailabilityZone=f"{HOME}a")["VolumeId"]
    foreign = root.create_snapshot(VolumeId=volume)["SnapshotId"]
    bucket = accounts.make_bucket(PRODUCTION)
    policy = json.loads(render("aws", Snapshotter(PRODUCTION, tasks=frozenset(TASKS))))
    user = accounts.make_user(policy, PRODUCTION)
    client = user.client("ec2", accounts.endpoint)

    def refused(call: Callable[[], object]) -> bool:
        with pytest.raises(ClientError) as caught:
            call()
        return caught.value.response["Error"]["Code"] in {"UnauthorizedOperation", "AccessDenied"}

    marked = [{"ResourceType": "snapshot", "Tags": [{"Key": "donjon-workload", "Value": "web"}]}]
    own = client.create_snapshot(VolumeId=volume, TagSpecifications=marked)["SnapshotId"]
    client.describe_snapshots(SnapshotIds=[own, foreign])
    assert refused(lambda: client.delete_snapshot(SnapshotId=foreign))
    mark = [{"Key": "donjon-workload", "Value": "x"}]
    assert refused(lambda: client.create_tags(Resources=[foreign], Tags=mark))
    assert refused(lambda: client.delete_volume(VolumeId=volume))
    assert refused(lambda: user.client("s3", accounts.endpoint).put_object(Bucket=bucket, Key="a", Body=b"x"))
    left = root.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert {own, foreign} <= {row["SnapshotId"] for row in left}
