"""Reading a snapshot of Compute Engine: as a disk that is attached to this machine for a while.

No request reads a snapshot's blocks, so a disk is made of it in the zone of this machine, attached for
reading alone, and in the end detached and deleted, whatever happened
(https://docs.cloud.google.com/compute/docs/disks/restore-snapshot, .../disks/add-persistent-disk). What a
process that was killed left attached goes when the next one begins.
"""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError

from donjon.core.errors import DonjonError, SnapshotFailed, UsageError
from donjon.core.operations import Operation
from donjon.snapshots import gce_calls as calls
from donjon.snapshots.base import Snapshot
from donjon.snapshots.gce_calls import Clients
from donjon.snapshots.gce_labels import escaped
from donjon.snapshots.patience import Patience

#: Marks disks that are there to be read; its value is the machine.
READING_LABEL: Final = "donjon-reading"
#: Where the guest's rules of udev link disks: https://docs.cloud.google.com/compute/docs/disks/disk-symlinks
DEVICES: Final = Path("/dev/disk/by-id")
_TIMEOUT_S: Final = 60
_WORK_S: Final = 1800.0
_MAX_LABEL: Final = 63
_METADATA_HOST: Final = "metadata.google.internal"


@dataclass(frozen=True, slots=True)
class Machine:
    """A virtual machine of Compute Engine."""

    project: str
    zone: str
    name: str


def this_machine(environment: Mapping[str, str]) -> Machine:
    """The machine that this runs on, by its metadata server.

    ``GCE_METADATA_HOST`` is another address of that, as for Google's own libraries. Raises ``UsageError`` if
    this is no machine of Compute Engine. Source: https://docs.cloud.google.com/compute/docs/metadata/overview
    """
    host = environment.get("GCE_METADATA_HOST", _METADATA_HOST)

    def ask(path: str) -> str:
        url = f"http://{host}/computeMetadata/v1/{path}"
        request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return bytes(answer.read(4096)).decode().strip()

    try:
        zone = ask("instance/zone").rpartition("/")[2]
        return Machine(ask("project/project-id"), zone, ask("instance/name"))
    except (URLError, OSError, UnicodeDecodeError) as error:
        msg = f"{host}: does not say which machine of Compute Engine this is"
        hint = "Disks of Compute Engine are read by a machine there: run Donjon on one."
        raise UsageError(msg, hint=hint) from error


class Attachments:
    """Disks of snapshots, attached to one machine. ``devices`` is where they are found."""

    def __init__(
        self,
        clients: Clients,
        machine: Machine,
        *,
        devices: Path = DEVICES,
        patience: Patience | None = None,
    ) -> None:
        self._clients = clients
        self._machine = machine
        self._devices = devices
        self._patience = patience or Patience()

    @contextmanager
    def attached(self, snapshots: Sequence[Snapshot], workload: str) -> Iterator[list[Path]]:
        """The block devices of some snapshots, in their order, until the body ends.

        Raises ``SnapshotFailed``, ``PermissionMissing``; no disk is left then. What cannot be detached or
        deleted at the end raises, too: it costs money until it goes.
        """
        self.clean_up(workload)
        made: list[str] = []
        try:
            devices = []
            for snapshot in snapshots:
                name = _name(self._machine, workload, snapshot.snapshot_id)
                made.append(name)
                devices.append(self._attach(name, workload, snapshot))
            yield devices
        except BaseException:
            self._remove_all(made, tell=False)  # the error that led here says more
            raise
        self._remove_all(made, tell=True)

    def clean_up(self, workload: str) -> None:
        """Detach and delete what a process that was killed left of a workload on this machine."""
        wanted = {READING_LABEL: _label(self._machine.name), _WORKLOAD_LABEL: _label(workload)}
        filters = " AND ".join(f"labels.{name}={value}" for name, value in sorted(wanted.items()))
        request = {"project": self._machine.project, "zone": self._machine.zone, "filter": filters}

        def look() -> list[str]:
            try:
                found = self._clients.disks.list(request=request, retry=None, timeout=_TIMEOUT_S)
                return [one.name for one in found]
            except Exception as error:
                raise calls.translated(error, calls.DISKS, self._machine.zone) from error

        self._remove_all(self._patience.call(look), tell=True)

    def _attach(self, name: str, workload: str, snapshot: Snapshot) -> Path:
        machine = self._machine
        labels = {READING_LABEL: _label(machine.name), _WORKLOAD_LABEL: _label(workload)}
        source = f"projects/{snapshot.account}/global/snapshots/{snapshot.snapshot_id}"
        disk = {"name": name, "source_snapshot": source, "labels": labels}
        self._work(
            calls.MAKE_DISK, snapshot.snapshot_id, self._clients.disks, "no disk was made of it",
            disk_resource=disk,
        )  # fmt: skip
        attached = {
            "source": f"projects/{machine.project}/zones/{machine.zone}/disks/{name}",
            "mode": "READ_ONLY",
            "device_name": name,
        }
        self._work(
            calls.ATTACH, machine.name, self._clients.instances, "the disk was not attached",
            instance=machine.name, attached_disk_resource=attached,
        )  # fmt: skip
        device = self._devices / f"google-{name}"
        if not self._until(device.exists):
            msg = f"{device}: the disk was attached, and does not appear"
            hint = "Look at udev on this machine: the guest environment of Google links disks there."
            raise SnapshotFailed(msg, hint=hint, retryable=True)
        return device

    def _remove_all(self, names: Sequence[str], *, tell: bool) -> None:
        """Detach and delete disks, each as far as possible; the first failure is raised if it shall be."""
        failures: list[DonjonError] = []
        for name in names:
            try:
                self._remove(name)
            except DonjonError as error:
                failures.append(error)
        if failures and tell:
            raise failures[0]

    def _remove(self, name: str) -> None:
        clients, machine = self._clients, self._machine
        try:
            disk = self._patience.call(lambda: self._ask(calls.DISK, name, clients.disks, disk=name))
        except calls.Missing:
            return
        if disk.users:
            self._work(
                calls.DETACH, machine.name, clients.instances, "the disk was not detached",
                instance=machine.name, device_name=name,
            )  # fmt: skip
        self._work(calls.DELETE_DISK, name, clients.disks, "it was not deleted", disk=name)

    def _work(self, operation: Operation, what: str, client: Any, work: str, **asked: Any) -> None:
        """Give an order and wait until it is carried out. Raises ``SnapshotFailed`` if it is not."""

        def order() -> Any:
            try:
                return self._ask(operation, what, client, **asked)
            except calls.Taken:
                return None  # an earlier try whose answer was lost

        state = self._patience.call(order)

        def done() -> bool:
            nonlocal state
            if state is None or state.status == _DONE:
                return True
            name = state.name
            state = self._patience.call(
                lambda: self._ask(calls.ZONE_OPERATION, what, self._clients.zone_operations, operation=name)
            )
            return False

        if not self._until(done):
            msg = f"{what}: {work} in time"
            raise SnapshotFailed(msg, hint="Look at the operations of the project.", retryable=True)
        calls.check_operation(state, what, work)

    def _ask(self, operation: Operation, what: str, client: Any, /, **asked: Any) -> Any:
        request = {"project": self._machine.project, "zone": self._machine.zone, **asked}
        try:
            return getattr(client, operation.method)(request=request, retry=None, timeout=_TIMEOUT_S)
        except Exception as error:
            raise calls.translated(error, operation, what) from error

    def _until(self, look: Callable[[], bool]) -> bool:
        pause_s, deadline = 0.5, self._patience.monotonic() + _WORK_S
        while not look():
            if self._patience.monotonic() > deadline:
                return False
            self._patience.sleep(pause_s)
            pause_s = min(2 * pause_s, 15.0)
        return True


_WORKLOAD_LABEL: Final = "donjon-workload"
#: DONE of https://docs.cloud.google.com/compute/docs/reference/rest/v1/zoneOperations
_DONE: Final = 2104194


def _label(value: str) -> str:
    return escaped(value)[:_MAX_LABEL]


def _name(machine: Machine, workload: str, snapshot_id: str) -> str:
    """A name of a disk: its own for each try, so that one that is going is not mistaken for it."""
    text = f"{machine.name}\0{workload}\0{snapshot_id}\0{os.urandom(8).hex()}"
    return f"donjon-read-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
