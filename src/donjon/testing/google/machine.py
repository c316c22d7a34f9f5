"""A virtual machine of Compute Engine on this machine: its disks are loop devices. Needs root.

A **fake**, with real block devices: what is attached can be read as on Google's machines, and nowhere else.
``GC`` stands for https://docs.cloud.google.com/compute/docs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from donjon.core.clock import Clock, system_clock
from donjon.snapshots.gce_attach import Machine
from donjon.testing.front import Answer, Request, serving
from donjon.testing.google.snapshots import GceSnapshotsFront, gce_clients

_METADATA = "/computeMetadata/v1/"


class GceMachineFront(GceSnapshotsFront):
    """Snapshots with data, disks of them, and a machine that they are attached to.

    ``devices`` is where attached disks are linked, as udev does. ``fails`` are the orders whose work fails,
    by ``insert``, ``attach``, ``detach`` and ``delete``.
    """

    def __init__(self, machine: Machine, folder: Path, clock: Clock = system_clock) -> None:
        super().__init__(machine.project, clock)
        self.machine = machine
        self.devices = folder / "by-id"
        self.devices.mkdir()
        self.fails: set[str] = set()
        self.appears = True
        self._folder = folder
        self._open: dict[str, int] = {}

    def image(self, zone: str, name: str) -> Path:
        """The data of a disk."""
        return self._folder / f"disk-{zone}-{name}"

    def handle(self, request: Request) -> Answer:
        """The metadata server, and everything else."""
        if request.path.startswith(_METADATA):
            return self._metadata(request)
        answer = super().handle(request)
        if request.method == "POST" and request.path.endswith("/global/snapshots"):
            for one in self.snapshots.values():  # a snapshot has the data of its disk at that moment
                data = self._folder / f"snapshot-{one['name']}"
                if not data.exists():
                    zone, disk = one["sourceDisk"].split("/")[-3], one["sourceDisk"].rpartition("/")[2]
                    shutil.copyfile(self.image(zone, disk), data)
        return answer

    def close(self) -> None:
        """Detach everything."""
        for name in list(self._open):
            self._detach(name)

    def _metadata(self, request: Request) -> Answer:
        """GC/metadata/querying-metadata: only with the header, and the zone with its path."""
        if request.headers.get("metadata-flavor") != "Google":
            return Answer(403)
        known = {
            "instance/zone": f"projects/12345/zones/{self.machine.zone}",
            "instance/name": self.machine.name,
            "project/project-id": self.machine.project,
        }
        found = known.get(request.path.removeprefix(_METADATA))
        return Answer(404) if found is None else Answer(200, found.encode(), {"Metadata-Flavor": "Google"})

    def zone_calls(
        self, zone: str, name: str, body: dict[str, Any], request: Request
    ) -> dict[str, tuple[str, Callable[[], dict[str, Any]]]]:
        """See ``GceSnapshotsFront``."""
        device = request.query.get("deviceName", "")
        return {
            "POST disks": ("compute.disks.create", lambda: self._insert_disk(zone, body)),
            "DELETE disks/NAME": ("compute.disks.delete", lambda: self._delete_disk(zone, name)),
            "POST instances/NAME/attachDisk": (
                "compute.instances.attachDisk", lambda: self._attach_disk(zone, name, body),
            ),
            "POST instances/NAME/detachDisk": (
                "compute.instances.detachDisk", lambda: self._detach_disk(zone, name, device),
            ),
        }  # fmt: skip

    def _insert_disk(self, zone: str, body: dict[str, Any]) -> dict[str, Any]:
        if "insert" in self.fails:
            return self.order("ZONE_RESOURCE_POOL_EXHAUSTED")
        name, snapshot = body["name"], body["sourceSnapshot"].rpartition("/")[2]
        self.snapshots[snapshot]  # a missing one is a fault of the test
        self.make_disk(zone, name, body["labels"])
        shutil.copyfile(self._folder / f"snapshot-{snapshot}", self.image(zone, name))
        return self.order()

    def _delete_disk(self, zone: str, name: str) -> dict[str, Any]:
        disk = self.disk(zone, name)
        if "delete" in self.fails:
            return self.order("INTERNAL_ERROR")
        if disk.get("users"):  # GC/disks/delete-disk: not while it is attached
            raise self.refusal(400, "resourceInUseByAnotherResource", f"The disk '{name}' is in use.")
        del self.disks[zone, name]
        self.image(zone, name).unlink()
        return self.order()

    def _attach_disk(self, zone: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """GC/disks/add-persistent-disk: of the machine's zone; for reading alone if it says so."""
        if (zone, name) != (self.machine.zone, self.machine.name):
            raise self.refusal(404, "notFound", f"The resource 'instances/{name}' was not found")
        disk = self.disk(zone, body["source"].rpartition("/")[2])
        if "attach" in self.fails:
            return self.order("INTERNAL_ERROR")
        disk["users"] = [f"zones/{zone}/instances/{name}"]
        self._attach(body["deviceName"], self.image(zone, disk["name"]), body["mode"] == "READ_ONLY")
        return self.order()

    def _detach_disk(self, zone: str, name: str, device: str) -> dict[str, Any]:
        del name
        if "detach" in self.fails:
            return self.order("INTERNAL_ERROR")
        self._detach(device)
        self.disk(zone, device)["users"] = []
        return self.order()

    def _attach(self, name: str, image: Path, read_only: bool) -> None:
        command = ["losetup", "--find", "--show", *(["--read-only"] if read_only else []), str(image)]
        device = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
        # Detached while it is open, it stays until it is closed: also by the end of a killed process.
        self._open[name] = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        subprocess.run(["losetup", "--detach", device], check=True)  # noqa: S603, S607
        if self.appears:
            (self.devices / f"google-{name}").symlink_to(device)

    def _detach(self, name: str) -> None:
        os.close(self._open.pop(name))
        (self.devices / f"google-{name}").unlink(missing_ok=True)


@contextlib.contextmanager
def gce_machine(machine: Machine, folder: Path) -> Iterator[tuple[GceMachineFront, str, Any]]:
    """A fake, its address, and Google's clients of it, until the body ends."""
    front = GceMachineFront(machine, folder)
    try:
        with serving(front) as address:
            yield front, address, gce_clients(address)
    finally:
        front.close()
