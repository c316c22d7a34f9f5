"""Disks of Compute Engine, read from snapshots: Google's own client, a fake, and real block devices."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from donjon.app.kinds.base import Prepared, Surroundings
from donjon.app.kinds.gce_disk import reading
from donjon.app.kinds.registry import check_online
from donjon.core.errors import DonjonError, PermissionMissing, SnapshotFailed, UsageError
from donjon.core.events import Silent
from donjon.plan.model import Plan
from donjon.plan.workloads import GceDisk
from donjon.snapshots.gce_attach import Attachments, Machine, this_machine
from donjon.snapshots.gce_calls import Clients
from donjon.snapshots.gce_disk import GceDiskSnapshots
from donjon.sources.attached import AttachedSource
from donjon.sources.base import Source
from donjon.testing.conformance.snapshots import QuickTime
from donjon.testing.conformance.sources import SourceTests, read_all
from donjon.testing.google.machine import GceMachineFront, gce_machine

MACHINE = Machine("production", "europe-west1-b", "worker")
ZONE = "europe-west1-c"  # of the disks: another one than the machine's
SIZE = 1 << 20


@dataclass
class Ground:
    front: GceMachineFront
    address: str
    clients: Clients
    keep: bool = False
    resting: bool = False

    def make_disk(self, name: str, content: bytes) -> None:
        self.front.make_disk(ZONE, name, {"app": "x"})
        image = self.front.image(ZONE, name)
        image.write_bytes(content)
        os.truncate(image, SIZE)

    def attachments(self) -> Attachments:
        return Attachments(self.clients, MACHINE, devices=self.front.devices, patience=QuickTime().patience)

    @contextlib.contextmanager
    def _quiesce(self) -> Iterator[None]:
        self.resting = True
        yield
        self.resting = False

    def read(self) -> contextlib.AbstractContextManager[Prepared]:
        source: dict[str, Any] = {"kind": "gce-disk", "zone": ZONE, "labels": {"app": "x"}}
        workload: dict[str, Any] = {"source": source, "site": "gcp"}
        if self.keep:
            workload["snapshots"] = {"keep": 1}
        site = {"provider": "gcp", "account": MACHINE.project, "region": "europe-west1"}
        plan = Plan.model_validate(
            {"version": 1, "name": "p", "sites": {"gcp": site}, "vaults": {}, "workloads": {"web": workload}}
        )
        surroundings = Surroundings(
            plan, "web", plan.rules("web"), Silent(), lambda: None, self._quiesce, frozenset()
        )
        provider = GceDiskSnapshots(
            self.clients, account=MACHINE.project, region="europe-west1", patience=QuickTime().patience
        )
        disk = plan.workloads["web"].source
        assert isinstance(disk, GceDisk)
        return reading(disk, surroundings, provider, self.attachments())

    def left(self) -> list[str]:
        """Disks, devices and loops that nobody needs any more."""
        loops = subprocess.run(["losetup", "--all"], capture_output=True, text=True, check=True).stdout
        mine = [line for line in loops.splitlines() if str(self.front.devices.parent) in line]
        return [name for zone, name in self.front.disks if zone == MACHINE.zone] + [
            *(path.name for path in self.front.devices.iterdir()),
            *mine,
        ]


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with gce_machine(MACHINE, tmp_path) as (front, address, clients):
        ground = Ground(front, address, clients)
        ground.make_disk("one", b"the first disk")
        ground.make_disk("two", b"the second disk")
        yield ground


def _contents(source: Source) -> dict[bytes, bytes]:
    found = {}
    for item in source.items():
        if item.is_file:
            content = item.open()
            found[item.path.lstrip(b"/")] = read_all(content)
            assert content.close()
    return found


def test_disks_are_read_as_they_were_and_nothing_is_left(ground: Ground) -> None:
    with ground.read() as prepared:
        assert not ground.resting
        for name in ("one", "two"):  # production goes on
            ground.front.image(ZONE, name).write_bytes(b"changed")
        assert prepared.paths == (f"/{ZONE}/one".encode(), f"/{ZONE}/two".encode())
        for device in ground.front.devices.iterdir():
            assert stat.S_ISBLK(device.stat().st_mode)
            with pytest.raises(OSError, match=r"permitted|denied|Read-only"):
                device.write_bytes(b"x")
        found = _contents(prepared.source)
        assert {path: data.rstrip(b"\0") for path, data in found.items()} == {
            f"{ZONE}/one".encode(): b"the first disk",
            f"{ZONE}/two".encode(): b"the second disk",
        }
        assert {len(data) for data in found.values()} == {SIZE}
    assert ground.left() == []
    assert ground.front.snapshots == {}  # the plan keeps none


def test_snapshots_stay_if_the_plan_keeps_some(ground: Ground) -> None:
    ground.keep = True
    with ground.read() as prepared:
        assert prepared.provider is not None
        assert {one.set_size for one in prepared.snapshots} == {2}
    assert ground.left() == []
    assert len(ground.front.snapshots) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_whatever_ends_the_reading_nothing_is_left(ground: Ground, error: type[BaseException]) -> None:
    def read() -> None:
        with ground.read() as prepared:
            _contents(prepared.source)
            raise error

    with pytest.raises(error):
        read()
    assert ground.left() == []
    assert ground.front.snapshots == {}


@pytest.mark.parametrize("step", ["insert", "attach"])
def test_an_order_whose_work_fails_leaves_nothing(ground: Ground, step: str) -> None:
    ground.front.fails.add(step)
    with pytest.raises(SnapshotFailed) as caught, ground.read():
        pass
    assert caught.value.retryable
    assert caught.value.hint
    assert ground.left() == []


@pytest.mark.parametrize("step", ["detach", "delete"])
def test_what_cannot_be_removed_is_told_and_goes_with_the_next(ground: Ground, step: str) -> None:
    ground.front.fails.add(step)
    with pytest.raises(SnapshotFailed, match=r"not detached|not deleted"), ground.read():
        pass
    assert ground.left() != []
    ground.front.fails.clear()
    with ground.read():
        assert len(list(ground.front.devices.iterdir())) == 2
    assert ground.left() == []


def test_what_a_killed_run_left_goes_with_the_next(ground: Ground) -> None:
    killed = ground.read()
    killed.__enter__()  # and never left, as in a process that is killed
    with ground.read():
        assert len(list(ground.front.devices.iterdir())) == 2
    assert ground.left() == []
    with contextlib.suppress(DonjonError):
        killed.__exit__(None, None, None)


def test_disks_of_other_machines_and_workloads_are_left_alone(ground: Ground) -> None:
    ground.front.make_disk(MACHINE.zone, "theirs", {"donjon-reading": "other", "donjon-workload": "web"})
    ground.front.make_disk(MACHINE.zone, "also", {"donjon-reading": "worker", "donjon-workload": "db"})
    ground.front.make_disk(MACHINE.zone, "data", {})
    with ground.read():
        pass
    assert sorted(ground.left()) == ["also", "data", "theirs"]


def test_a_disk_that_does_not_appear_is_given_up(ground: Ground) -> None:
    ground.front.appears = False
    with pytest.raises(SnapshotFailed, match="does not appear") as caught, ground.read():
        pass
    assert "udev" in caught.value.hint
    assert ground.left() == []


@pytest.mark.parametrize("permission", ["compute.disks.create", "compute.instances.attachDisk"])
def test_a_missing_permission_is_named_and_nothing_is_left(ground: Ground, permission: str) -> None:
    ground.front.denied.add(permission)
    with pytest.raises(PermissionMissing, match=permission), ground.read():
        pass
    assert ground.left() == []
    assert ground.front.snapshots == {}


def test_the_machine_is_known_by_its_metadata_server(ground: Ground) -> None:
    host = ground.address.removeprefix("http://")
    assert this_machine({"GCE_METADATA_HOST": host}) == MACHINE
    with pytest.raises(UsageError, match="does not say") as caught:
        this_machine({"GCE_METADATA_HOST": "127.0.0.1:9"})
    assert "run Donjon on one" in caught.value.hint


def test_elsewhere_a_look_says_that_this_is_no_machine_of_google(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
    source: dict[str, Any] = {"kind": "gce-disk", "zone": ZONE, "disks": ["one"]}
    plan = Plan.model_validate(
        {"version": 1, "name": "p", "sites": {}, "vaults": {}, "workloads": {"web": {"source": source}}}
    )
    (seen,) = check_online(plan, "web")
    assert seen.is_good is False
    assert "does not say" in seen.message
    monkeypatch.setenv("GCE_METADATA_HOST", ground.address.removeprefix("http://"))
    machine, missing = check_online(plan, "web")
    assert machine.is_good
    assert "needs a site" in missing.message


class TestAttachedSource(SourceTests):
    comparable = False

    @pytest.fixture(autouse=True)
    def _disk(self, tmp_path: Path) -> None:
        self.image = tmp_path / "image"
        self.image.write_bytes(os.urandom(100_000))

    def make(self) -> Source:
        return AttachedSource({b"/zone/disk": os.fsencode(self.image)})
