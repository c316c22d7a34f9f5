"""Workloads of the kinds ``block`` and ``ebs``, as a plan has them. EC2 is moto behind our fakes."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from donjon.app.kinds import registry
from donjon.app.kinds.base import Prepared, Surroundings
from donjon.codec.chunk import Sizes
from donjon.core.clock import system_clock
from donjon.core.errors import Refused, SnapshotFailed
from donjon.core.events import Silent
from donjon.plan.model import Plan
from donjon.targets.image import ImageTarget
from donjon.testing.aws.ebs_front import BLOCK_BYTES, EbsFront
from donjon.testing.aws.ec2_front import ec2_front
from donjon.testing.aws.moto import moto
from donjon.testing.aws.people import User
from donjon.testing.front import Upstream, serving
from tests.integration.engine import Place
from tests.integration.volumes import (
    GIB,
    MIB,
    assert_same,
    back_up,
    bring_back,
    loop_device,
    mounted,
    noise,
    sparse,
)

USER = User("ebs", "AKIAIOSFODNN7EXAMPLE", "made-up-secret-of-the-tests")


@dataclass
class Run:
    """One workload of a plan, and when it rested."""

    source: dict[str, object]
    rules: dict[str, object] = field(default_factory=dict)
    rested: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def _quiesce(self) -> Iterator[None]:
        self.rested.append("rests")
        try:
            yield
        finally:
            self.rested.append("works")

    @property
    def plan(self) -> Plan:
        site = {"provider": "aws", "account": "123456789012", "region": "us-east-1"}
        return Plan.model_validate(
            {
                "version": 1,
                "name": "p",
                "sites": {"here": site},
                "vaults": {},
                "workloads": {"db": {"source": self.source, "site": "here", **self.rules}},
            }
        )

    def prepare(self) -> contextlib.AbstractContextManager[Prepared]:
        plan = self.plan
        surroundings = Surroundings(
            plan, "db", plan.rules("db"), Silent(), lambda: None, self._quiesce, frozenset()
        )
        return registry.prepare(plan.workloads["db"].source, surroundings)

    def check(self) -> list[tuple[bool | None, str]]:
        return [(check.is_good, check.message) for check in registry.check_online(self.plan, "db")]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path / "place", sizes=Sizes())


# -- block ---------------------------------------------------------------------------------------------


def test_devices_of_a_plan_rest_while_they_are_read(place: Place, tmp_path: Path) -> None:
    image = tmp_path / "image"
    sparse(image, 8 * MIB, {0: noise(1, MIB)})
    run = Run({"kind": "block", "devices": [str(image)]})
    with run.prepare() as prepared:
        assert prepared.paths == (os.fsencode(image),)
        back_up(place, prepared.source)
        assert run.rested == ["rests"]
    assert run.rested == ["rests", "works"]
    bring_back(place, ImageTarget(str(tmp_path / "back"), overwrite=False))
    assert_same(image, tmp_path / "back")
    assert run.check() == [(True, f"{image}: is there")]


def test_a_mounted_device_of_a_plan_is_refused_and_the_application_released(tmp_path: Path) -> None:
    image = tmp_path / "image"
    sparse(image, 16 * MIB, {})
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    run = Run({"kind": "block", "devices": [str(image)]})
    with loop_device(image) as device, mounted(device, tmp_path / "mnt"):
        with pytest.raises(Refused, match="mounted for writing"), run.prepare():
            pass
        ((good, message),) = run.check()
        assert (good, "mounted for writing" in message) == (False, True)
    assert run.rested == ["rests", "works"]


# -- EBS -----------------------------------------------------------------------------------------------


@dataclass
class Cloud:
    front: EbsFront
    ec2: Any

    def volume(self, content: dict[int, bytes], size_gib: int = 1) -> str:
        made = self.ec2.create_volume(Size=size_gib, AvailabilityZone="us-east-1a")
        volume = str(made["VolumeId"])
        self.front.volumes[volume] = content
        return volume

    def snapshots(self) -> list[str]:
        found = self.ec2.describe_snapshots(
            Filters=[{"Name": "tag-key", "Values": ["donjon-workload"]}], OwnerIds=["self"]
        )
        return sorted(one["SnapshotId"] for one in found["Snapshots"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EbsFront, str]]:
    with moto(tmp_path_factory.mktemp("moto")) as server, ec2_front(server) as (_, behind):
        front = EbsFront(system_clock, Upstream(urlsplit(behind).port or 0))
        with serving(front) as endpoint:
            yield front, endpoint


@pytest.fixture
def cloud(served: tuple[EbsFront, str], monkeypatch: pytest.MonkeyPatch) -> Cloud:
    front, endpoint = served
    front.denied, front.trouble = set(), None
    for name, value in {**USER.environment, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    cloud = Cloud(front, USER.client("ec2", endpoint))
    for snapshot in cloud.snapshots():
        cloud.ec2.delete_snapshot(SnapshotId=snapshot)
    return cloud


def blocks(*indexes: int, seed: int = 0) -> dict[int, bytes]:
    return {index: noise(1000 * seed + index, BLOCK_BYTES) for index in indexes}


def test_volumes_are_read_from_snapshots_and_the_next_run_reads_what_changed(
    cloud: Cloud, place: Place, tmp_path: Path
) -> None:
    first, second = blocks(0, 1, 8), blocks(2, 2047)
    names = [cloud.volume(first), cloud.volume(second)]
    run = Run({"kind": "ebs", "volumes": names})
    with run.prepare() as prepared:
        assert run.rested == ["rests", "works"]  # before anything is read
        assert sorted(prepared.paths) == sorted(b"/" + name.encode() for name in names)
        first[8] = noise(5, BLOCK_BYTES)  # production goes on
        done = back_up(place, prepared.source)
    assert done.counts.bytes_read == 5 * BLOCK_BYTES
    kept = cloud.snapshots()
    assert len(kept) == 2
    with run.prepare() as prepared:
        done = back_up(place, prepared.source)
    assert (done.counts.bytes_read, done.warnings) == (BLOCK_BYTES, [])
    assert len(cloud.snapshots()) == 2  # of the second run
    assert not set(kept) & set(cloud.snapshots())
    bring_back(place, ImageTarget(str(tmp_path / "back"), overwrite=False), names[0].encode())
    sparse(tmp_path / "wanted", GIB, {index * BLOCK_BYTES: data for index, data in first.items()})
    assert_same(tmp_path / "wanted", tmp_path / "back")
    assert sorted(run.check()) == [(True, f"{name}: is there") for name in sorted(names)]


def test_a_run_that_fails_keeps_the_set_that_the_newest_point_was_made_from(
    cloud: Cloud, place: Place
) -> None:
    run = Run({"kind": "ebs", "volumes": [cloud.volume(blocks(1))]})
    with run.prepare() as prepared:
        back_up(place, prepared.source)
    kept = cloud.snapshots()

    class Crash(Exception):
        pass

    def crash() -> None:
        with run.prepare():
            assert len(cloud.snapshots()) == 2
            raise Crash

    with pytest.raises(Crash):
        crash()
    assert cloud.snapshots() == kept
    with run.prepare() as prepared:
        assert back_up(place, prepared.source).counts.bytes_read == 0


def test_a_plan_with_rules_for_snapshots_looks_after_them_itself(cloud: Cloud, place: Place) -> None:
    run = Run({"kind": "ebs", "volumes": [cloud.volume(blocks(1))]}, {"snapshots": {"keep": 2}})
    for number in range(1, 4):
        with run.prepare() as prepared:
            back_up(place, prepared.source)
            assert prepared.provider is not None
            assert len(prepared.snapshots) == 1
        assert len(cloud.snapshots()) == number


def test_a_volume_that_is_gone_is_told_before_anything_rests(cloud: Cloud) -> None:
    run = Run({"kind": "ebs", "volumes": ["vol-00000000000000000"]})
    with pytest.raises(SnapshotFailed, match="no such volume"), run.prepare():
        pass
    assert run.rested == []
    ((good, message),) = run.check()
    assert (good, "no such volume" in message) == (False, True)
