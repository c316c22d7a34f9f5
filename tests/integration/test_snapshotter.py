"""The rendered snapshotter of AWS under a judge of its policy: all that it does works, and nothing else.

EC2 is moto behind fronts of ours, the last of which obeys the policy: they are **fakes**.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from donjon.clouds.ebs import BLOCK_BYTES, open_direct
from donjon.core.clock import system_clock
from donjon.roles.snapshotter import TASKS, permissions
from donjon.snapshots.ebs import EbsSnapshots
from donjon.snapshots.marks import TAG
from donjon.testing.aws.ebs_front import EbsFront
from donjon.testing.aws.ec2_front import ec2_front
from donjon.testing.aws.iam_front import IamFront
from donjon.testing.aws.moto import moto
from donjon.testing.aws.people import User
from donjon.testing.conformance.snapshots import QuickTime
from donjon.testing.front import Upstream, serving
from tests.integration.cli import Donjon
from tests.integration.volumes import noise

ACCOUNT, REGION = "123456789012", "us-east-1"  # moto's
ROOT = User("root", "AKIAROOTROOTROOTROOT", "made-up-secret-of-the-root")
HOLDER = User("snapshotter", "AKIASNAPSHOTTER00000", "made-up-secret-of-the-snapshotter")
DAY = 86_400


@dataclass
class Cloud:
    """EC2 and EBS direct behind a judge; ``mine`` and ``roots`` are clients of both users."""

    iam: IamFront
    ebs: EbsFront
    endpoint: str

    @property
    def mine(self) -> Any:
        return HOLDER.client("ec2", self.endpoint)

    @property
    def roots(self) -> Any:
        return ROOT.client("ec2", self.endpoint)

    @property
    def environment(self) -> dict[str, str]:
        return HOLDER.environment | {"AWS_ENDPOINT_URL": self.endpoint, "AWS_DEFAULT_REGION": REGION}

    def volume(self, **more: Any) -> str:
        made = self.roots.create_volume(Size=1, AvailabilityZone=f"{REGION}a", **more)
        volume = str(made["VolumeId"])
        self.ebs.volumes[volume] = {0: noise(1, BLOCK_BYTES)}
        return volume

    def instance(self) -> tuple[str, list[str]]:
        """One that has two volumes."""
        made = self.roots.run_instances(ImageId="ami-03cf127a", MinCount=1, MaxCount=1)["Instances"][0]
        boot, data = made["BlockDeviceMappings"][0]["Ebs"]["VolumeId"], self.volume()
        self.roots.attach_volume(VolumeId=data, InstanceId=made["InstanceId"], Device="/dev/sdf")
        return made["InstanceId"], [boot, data]

    def there(self, snapshot_id: str) -> bool:
        wanted = [{"Name": "snapshot-id", "Values": [snapshot_id]}]
        return bool(self.roots.describe_snapshots(Filters=wanted)["Snapshots"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    def port(address: str) -> Upstream:
        return Upstream(urlsplit(address).port or 0)

    with moto(tmp_path_factory.mktemp("moto")) as server, ec2_front(server) as (_, ec2):
        ebs = EbsFront(system_clock, port(ec2))
        with serving(ebs) as behind:
            iam = IamFront(port(behind), system_clock, account=ACCOUNT, region=REGION)
            with serving(iam) as endpoint:
                yield Cloud(iam, ebs, endpoint)


@pytest.fixture
def cloud(served: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    served.iam.policies, served.iam.used, served.iam.refused = {}, set(), []
    return served


def rendered(donjon: Donjon, *options: str) -> dict[str, Any]:
    said = donjon.json("roles", "snapshotter", "--cloud", "aws", "--account", ACCOUNT, *options)
    policy: dict[str, Any] = json.loads(said["text"])
    return policy


def test_a_plan_is_run_with_what_is_rendered_for_it(donjon: Donjon, cloud: Cloud) -> None:
    """Two runs by the command: the second reads what changed, and deletes the set before it."""
    cloud.iam.policies[HOLDER.access_key] = rendered(donjon)
    volume = cloud.volume()
    plan = donjon.folder / "donjon.yaml"
    sites = {
        "prod": {"provider": "aws", "account": ACCOUNT, "region": REGION},
        "here": {"provider": "on-premises", "account": "me", "region": "cellar"},
    }
    part = {"source": {"kind": "ebs", "volumes": [volume]}, "site": "prod", "snapshots": {"keep": 1}}
    made = {
        "version": 1,
        "name": "p",
        "sites": sites,
        "vaults": {"main": {"url": donjon.vault.as_uri(), "site": "here", "medium": "disk"}},
        "defaults": {"vault": "main"},
        "workloads": {"db": part},
    }
    plan.write_text(json.dumps(made))
    for number in (1, 2):
        donjon.run("plan", "run", "db", "--plan", plan, environment=cloud.environment)
        cloud.ebs.volumes[volume][number] = noise(number, BLOCK_BYTES)
        time.sleep(1.1)  # EC2 tells when sets were taken in whole seconds
    assert len(donjon.json("points")["points"]) == 2
    owned = [{"Name": "tag-key", "Values": [TAG]}, {"Name": "volume-id", "Values": [volume]}]
    assert len(cloud.roots.describe_snapshots(Filters=owned)["Snapshots"]) == 1
    assert cloud.iam.refused == []
    used = {"ec2:CreateSnapshot", "ec2:CreateTags", "ec2:DeleteSnapshot"}
    assert (
        used | {"ebs:ListSnapshotBlocks", "ebs:ListChangedBlocks", "ebs:GetSnapshotBlock"} <= cloud.iam.used
    )


def test_every_task_works_and_takes_every_permission(donjon: Donjon, cloud: Cloud) -> None:
    cloud.iam.policies[HOLDER.access_key] = rendered(donjon, *(f"--{task}" for task in TASKS))
    patience = QuickTime().patience
    mine = EbsSnapshots(cloud.mine, account=ACCOUNT, region=REGION, patience=patience)
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "app", "Value": "web"}]}]
    instance, attached = cloud.instance()
    volumes = [*mine.select(tags={"app": "web"}, volumes=[cloud.volume(TagSpecifications=tags)])]
    assert sorted(mine.select(instances=[instance])) == sorted(attached)
    first = mine.wait(mine.create([*volumes, *attached], workload="web", set_id="s1"), timeout_s=60)
    copy = mine.copy(first[0])
    mine.share(first[0], "210987654321")
    direct = open_direct(region=REGION, endpoint=cloud.endpoint)
    blocks = [block for page in direct.list_blocks(first[0].snapshot_id) for block in page]
    assert blocks
    second = mine.create(volumes, workload="web", set_id="s2")
    assert list(direct.list_changed(first[0].snapshot_id, second[0].snapshot_id)) is not None
    mine.delete(first[1])
    locked = mine.lock(first[0], retain_until=system_clock() + 2 * DAY)
    assert locked.locked_until
    listed = {one.snapshot_id for one in mine.list("web")}
    assert {first[0].snapshot_id, copy.snapshot_id, second[0].snapshot_id} <= listed
    assert first[1].snapshot_id not in listed
    assert cloud.iam.refused == []
    wanted = {name for name in permissions("aws", TASKS) if not name.startswith("kms:")}
    assert wanted - cloud.iam.used <= {"ebs:GetSnapshotBlock"}  # which the plan's run takes


def test_what_is_not_its_own_is_beyond_it(donjon: Donjon, cloud: Cloud) -> None:
    cloud.iam.policies[HOLDER.access_key] = rendered(
        donjon, *(f"--{task}" for task in TASKS if task != "copy")
    )
    volume = cloud.volume()
    foreign = str(cloud.roots.create_snapshot(VolumeId=volume)["SnapshotId"])
    mark = [{"Key": TAG, "Value": "web"}]
    tagged = [{"ResourceType": "snapshot", "Tags": mark}]
    other = [{"ResourceType": "snapshot", "Tags": [{"Key": "Name", "Value": "x"}]}]
    mine = cloud.mine
    ebs = HOLDER.client("ebs", cloud.endpoint)
    until = {"LockMode": "governance", "LockDuration": 1}
    share = {"Attribute": "createVolumePermission", "OperationType": "add", "UserIds": ["210987654321"]}
    attempts: dict[str, Callable[[], object]] = {
        "delete it": lambda: mine.delete_snapshot(SnapshotId=foreign),
        "lock it": lambda: mine.lock_snapshot(SnapshotId=foreign, **until),
        "share it": lambda: mine.modify_snapshot_attribute(SnapshotId=foreign, **share),
        "mark it": lambda: mine.create_tags(Resources=[foreign], Tags=mark),
        "list its blocks": lambda: ebs.list_snapshot_blocks(SnapshotId=foreign),
        "copy it": lambda: mine.copy_snapshot(
            SourceSnapshotId=foreign, SourceRegion=REGION, TagSpecifications=tagged
        ),
        "take one without a mark": lambda: mine.create_snapshot(VolumeId=volume),
        "take one with another mark": lambda: mine.create_snapshot(VolumeId=volume, TagSpecifications=other),
        "delete a volume": lambda: mine.delete_volume(VolumeId=volume),
        "make a volume": lambda: mine.create_volume(
            Size=1, AvailabilityZone=f"{REGION}a", SnapshotId=foreign
        ),
    }
    before = len(cloud.roots.describe_snapshots(OwnerIds=["self"])["Snapshots"])
    for what, attempt in attempts.items():
        with pytest.raises(ClientError) as caught:
            attempt()
        code = caught.value.response["Error"]["Code"]
        assert code in {"UnauthorizedOperation", "AccessDeniedException"}, what
    own = str(mine.create_snapshot(VolumeId=volume, TagSpecifications=tagged)["SnapshotId"])
    for attempt in (  # its own it may neither unlock nor take the mark from
        lambda: mine.unlock_snapshot(SnapshotId=own),
        lambda: mine.delete_tags(Resources=[own], Tags=mark),
        lambda: mine.create_tags(Resources=[own], Tags=mark),
    ):
        with pytest.raises(ClientError, match="UnauthorizedOperation"):
            attempt()
    mine.delete_snapshot(SnapshotId=own)
    assert cloud.there(foreign)
    assert len(cloud.roots.describe_snapshots(OwnerIds=["self"])["Snapshots"]) == before


def test_without_the_condition_it_would_delete_others(donjon: Donjon, cloud: Cloud) -> None:
    """It is the tag, and not the judge, that keeps it from other snapshots."""
    policy = rendered(donjon)
    for statement in policy["Statement"]:
        statement.pop("Condition", None)
    cloud.iam.policies[HOLDER.access_key] = policy
    foreign = str(cloud.roots.create_snapshot(VolumeId=cloud.volume())["SnapshotId"])
    cloud.mine.delete_snapshot(SnapshotId=foreign)
    assert not cloud.there(foreign)


def test_no_store_of_a_vault_is_in_it(donjon: Donjon) -> None:
    policy = rendered(donjon, *(f"--{task}" for task in TASKS))
    actions = [action for statement in policy["Statement"] for action in statement["Action"]]
    assert {action.partition(":")[0] for action in actions} <= {"ec2", "ebs", "kms"}
    assert not any("*" in action.removesuffix("*") or action in {"*", "ec2:*"} for action in actions)
