"""Snapshots of disks of Compute Engine.

Volumes are named ``ZONE/DISK`` in the project; a snapshot belongs to the project, and its data is kept where
``storage_locations`` say. A snapshot's name follows from its workload, set and disk, so a call whose answer
was lost is found again. They have no locks: https://docs.cloud.google.com/compute/docs/disks/snapshots
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from donjon.core.errors import DonjonError, LocksUnsupported, Refused, SnapshotFailed
from donjon.core.operations import Operation
from donjon.core.units import GIB
from donjon.snapshots import gce_calls as calls
from donjon.snapshots.base import Snapshot, SnapshotState
from donjon.snapshots.gce_calls import PERMISSIONS, Clients, connect
from donjon.snapshots.gce_labels import escaped, from_labels, to_labels
from donjon.snapshots.marks import (
    MOMENT_TAG,
    ORIGIN_TAG,
    SET_TAG,
    SIZE_TAG,
    TAG,
    VOLUME_TAG,
    Marks,
    check_names,
)
from donjon.snapshots.patience import Patience

__all__ = ["PERMISSIONS", "GceDiskSnapshots", "connect"]

T = TypeVar("T")

_TIMEOUT_S: Final = 60
#: How long the order for a snapshot, or for its deletion, may take until it can be seen.
_ORDER_S: Final = 600.0
_LABELS: Final = (TAG, SET_TAG, SIZE_TAG, MOMENT_TAG, VOLUME_TAG, ORIGIN_TAG)
_MAX_LABEL: Final = 63
_STATES: Final = {"READY": SnapshotState.COMPLETE, "FAILED": SnapshotState.FAILED}
#: What another project needs: a role of this project with compute.snapshots.get and useReadOnly alone.
SHARE_ROLE: Final = "donjonSnapshotReader"


class GceDiskSnapshots:
    """See ``Snapshots``. ``account`` is the project. Data is kept in ``region`` unless told otherwise."""

    def __init__(
        self,
        clients: Clients,
        *,
        account: str,
        region: str,
        storage_locations: Sequence[str] = (),
        patience: Patience | None = None,
    ) -> None:
        self._clients = clients
        self.account: Final = account
        self.region: Final = region
        self._locations = [*storage_locations] or [region]
        self._patience = patience or Patience()

    def __repr__(self) -> str:
        return f"GceDiskSnapshots({self.account}, {self.region})"

    def select(
        self, *, zone: str, disks: Sequence[str] = (), labels: Mapping[str, str] | None = None
    ) -> Sequence[str]:
        """The disks of a zone that are named or have all of ``labels``, as ``ZONE/DISK``; sorted.

        Raises ``SnapshotFailed`` if one that is named does not exist, or nothing is found.
        """
        found = {f"{zone}/{name}" for name in disks}
        for volume in sorted(found):
            self._patience.call(partial(self._look_at, volume))
        if labels:
            wanted = " AND ".join(f"labels.{name}={value}" for name, value in sorted(labels.items()))
            request = {"project": self.account, "zone": zone, "filter": wanted}
            listed = self._patience.call(lambda: self._listed(calls.DISKS, self._clients.disks, request))
            found |= {f"{zone}/{one.name}" for one in listed}
        if not found:
            msg = f"{self.account}/{zone}: no disk has the labels {dict(labels or {})}"
            raise SnapshotFailed(msg, hint="Correct the labels or the zone in the plan.")
        return sorted(found)

    def create(self, volumes: Sequence[str], *, workload: str, set_id: str) -> list[Snapshot]:
        """See ``Snapshots``."""
        check_names(workload, set_id)
        names = [_name(workload, set_id, volume) for volume in volumes]
        made: list[Snapshot] = []
        try:
            for volume, name in zip(volumes, names, strict=True):
                marks = Marks(workload, set_id, len(set(volumes)), volume, volume)
                made.append(self._take(volume, name, marks))
        except DonjonError:
            self._undo(names, workload, set_id)
            raise
        return made

    def wait(self, snapshots: Sequence[Snapshot], *, timeout_s: float) -> list[Snapshot]:
        """See ``Snapshots``."""

        def look(waiting: Sequence[Snapshot]) -> dict[str, Snapshot]:
            found = [self._found(one.snapshot_id) for one in waiting]
            return {one.snapshot_id: one for one in found if one is not None}

        return self._patience.wait(snapshots, look, timeout_s)

    def copy(self, snapshot: Snapshot, *, key: str = "") -> Snapshot:
        """See ``Snapshots``: Google copies none; where the data is kept is chosen when it is taken."""
        msg = f"{snapshot.snapshot_id}: Compute Engine has no copies of snapshots"
        raise Refused(msg, hint="Leave `copy_to` out; what is elsewhere is the backup in the vault.")

    def share(self, snapshot: Snapshot, account: str) -> None:
        """See ``Snapshots``. ``account`` is a principal, such as ``serviceAccount:NAME@PROJECT...``."""
        if ":" not in account:
            msg = f"{snapshot.snapshot_id}: is shared with principals, and {account!r} is none"
            raise Refused(msg, hint="Write serviceAccount:..., user:... or group:....")
        self._own(snapshot)
        self._patience.call(lambda: self._share(snapshot.snapshot_id, account))

    def lock(self, snapshot: Snapshot, *, retain_until: int) -> Snapshot:
        """See ``Snapshots``."""
        msg = f"{snapshot.snapshot_id}: snapshots of Compute Engine have no locks"
        raise LocksUnsupported(msg, hint="Leave `lock` out of the plan; the vault has locks.")

    def delete(self, snapshot: Snapshot) -> None:
        """See ``Snapshots``. Returns when Google has deleted it."""
        if self._own(snapshot) is None:
            return

        def order() -> Any:
            try:
                return self._ask(
                    calls.DELETE, snapshot.snapshot_id, self._clients.snapshots, snapshot=snapshot.snapshot_id
                )
            except calls.Missing:
                return None

        operation = self._patience.call(order)

        def gone() -> bool | None:
            if self._raw(snapshot.snapshot_id) is None:
                return True
            if operation is not None:
                self._check(operation, snapshot.snapshot_id, "it was not deleted")
            return None

        if self._until(gone) is None:
            msg = f"{snapshot.snapshot_id}: Google took the order to delete it and has not done so"
            raise SnapshotFailed(msg, hint="Look at it in the console.", retryable=True)

    def list(self, workload: str | None = None) -> Iterator[Snapshot]:
        """See ``Snapshots``."""
        label = f"labels.{TAG}"
        wanted = f"{label}={escaped(workload)[:_MAX_LABEL]}" if workload else f"{label}:*"
        request = {"project": self.account, "filter": wanted}
        for said in self._patience.call(
            lambda: self._listed(calls.SNAPSHOTS, self._clients.snapshots, request)
        ):
            marks = Marks.of(from_labels(said.labels, _LABELS))
            if marks is not None and workload in {None, marks.workload} and said.status != "DELETING":
                yield self._snapshot(said, marks)

    def _look_at(self, volume: str) -> None:
        zone, disk = _parts(volume)
        self._ask(calls.DISK, volume, self._clients.disks, zone=zone, disk=disk)

    def _take(self, volume: str, name: str, marks: Marks) -> Snapshot:
        present = self._own_named(name, marks)
        if present is not None and present.state is not SnapshotState.FAILED:
            return present
        if present is not None:
            self.delete(present)
        zone, disk = _parts(volume)
        resource = {
            "name": name,
            "source_disk": f"projects/{self.account}/zones/{zone}/disks/{disk}",
            "labels": to_labels(marks.tags),
            "storage_locations": self._locations,
            "description": f"Donjon: {marks.workload}, set {marks.set_id}",
        }

        request_id = str(uuid.uuid4())  # by which Google knows an order that it was given before

        def order() -> Any:
            try:
                return self._ask(
                    calls.CREATE, volume, self._clients.snapshots, snapshot_resource=resource,
                    request_id=request_id,
                )  # fmt: skip
            except calls.Taken:
                return None  # an earlier try whose answer was lost, or somebody else's

        operation = self._patience.call(order)

        def look() -> Snapshot | None:
            found = self._own_named(name, marks)
            if found is None and operation is not None:
                self._check(operation, volume, "the snapshot was not taken")
            return found

        made = self._until(look)
        if made is None:
            msg = f"{volume}: Google took the order for a snapshot and shows none"
            raise SnapshotFailed(msg, hint="Look at the operations of the project.", retryable=True)
        return made

    def _check(self, operation: Any, what: str, work: str) -> None:
        """Raises ``SnapshotFailed`` if what was ordered has failed; ``work`` says what was not done."""
        asked = {"operation": operation.name}
        found = self._patience.call(
            lambda: self._ask(calls.OPERATION, what, self._clients.operations, **asked)
        )
        calls.check_operation(found, what, work)

    def _until(self, look: Callable[[], T | None]) -> T | None:
        """What ``look`` gives once it is not None; None if that takes too long."""
        pause_s, deadline = 1.0, self._patience.monotonic() + _ORDER_S
        while (found := look()) is None and self._patience.monotonic() < deadline:
            self._patience.sleep(pause_s)
            pause_s = min(2 * pause_s, 30.0)
        return found

    def _share(self, name: str, member: str) -> None:
        what, client = name, self._clients.snapshots
        policy = self._ask(calls.GET_POLICY, what, client, resource=name)
        role = f"projects/{self.account}/roles/{SHARE_ROLE}"
        bindings = [{"role": one.role, "members": [*one.members]} for one in policy.bindings]
        mine = next((one for one in bindings if one["role"] == role), None)
        if mine is None:
            mine = {"role": role, "members": []}
            bindings.append(mine)
        if member in mine["members"]:
            return
        mine["members"].append(member)
        request = {"policy": {"bindings": bindings, "etag": policy.etag}}
        self._ask(calls.SET_POLICY, what, client, resource=name, global_set_policy_request_resource=request)

    def _undo(self, names: Sequence[str], workload: str, set_id: str) -> None:
        """Delete what a set has that cannot be whole. What is left, for want of permission, expires later."""
        for name in names:
            try:
                found = self._found(name)
                if found is not None and (found.workload, found.set_id) == (workload, set_id):
                    self.delete(found)
            except DonjonError:
                continue  # the error that led here says more

    def _own(self, snapshot: Snapshot) -> Snapshot | None:
        return self._own_named(
            snapshot.snapshot_id, Marks(snapshot.workload, snapshot.set_id, snapshot.set_size)
        )

    def _own_named(self, name: str, marks: Marks) -> Snapshot | None:
        """What is there; None for nothing. Raises ``Refused`` if it is not the one meant."""
        said = self._raw(name)
        if said is None:
            return None
        found = Marks.of(from_labels(said.labels, _LABELS))
        if found is None or (found.workload, found.set_id) != (marks.workload, marks.set_id):
            msg = f"{name}: has not the marks of {marks.workload}, set {marks.set_id}"
            hint = "Donjon touches only snapshots that it made; find out who changed the labels."
            raise Refused(msg, hint=hint)
        return self._snapshot(said, found)

    def _found(self, name: str) -> Snapshot | None:
        """What there is of Donjon's under a name."""
        said = self._raw(name)
        marks = Marks.of(from_labels(said.labels, _LABELS)) if said is not None else None
        return self._snapshot(said, marks) if marks is not None else None

    def _raw(self, name: str) -> Any:
        def look() -> Any:
            try:
                return self._ask(calls.SNAPSHOT, name, self._clients.snapshots, snapshot=name)
            except calls.Missing:
                return None

        said = self._patience.call(look)
        return None if said is not None and said.status == "DELETING" else said

    def _ask(self, operation: Operation, what: str, client: Any, /, **asked: Any) -> Any:
        request = {"project": self.account, **asked}
        try:
            return getattr(client, operation.method)(request=request, retry=None, timeout=_TIMEOUT_S)
        except Exception as error:
            raise calls.translated(error, operation, what) from error

    def _listed(self, operation: Operation, client: Any, request: Mapping[str, str]) -> Sequence[Any]:
        try:
            return [*client.list(request=request, retry=None, timeout=_TIMEOUT_S)]
        except Exception as error:
            raise calls.translated(error, operation, self.account) from error

    def _snapshot(self, said: Any, marks: Marks) -> Snapshot:
        return Snapshot(
            snapshot_id=said.name,
            volume_id=marks.volume_id,
            workload=marks.workload,
            set_id=marks.set_id,
            created_at=_unix(said.creation_timestamp),
            size_bytes=int(said.disk_size_gb) * GIB,
            state=_STATES.get(said.status, SnapshotState.PENDING),
            account=self.account,
            region=self.region,
            set_size=marks.set_size,
            moment=marks.moment,
            key=said.snapshot_encryption_key.kms_key_name,
            origin=marks.origin,
            detail=said.status,
        )


def _name(workload: str, set_id: str, volume: str) -> str:
    """A name that follows from what the snapshot is of: 63 lower-case letters, digits and '-'."""
    digest = hashlib.sha256(f"{workload}\0{set_id}\0{volume}".encode()).hexdigest()
    return f"donjon-{digest[:40]}"


def _parts(volume: str) -> tuple[str, str]:
    zone, found, disk = volume.partition("/")
    if not found or not zone or not disk or "/" in disk:
        msg = f"{volume!r}: is no name of a disk of Compute Engine"
        raise SnapshotFailed(msg, hint="Write ZONE/DISK.")
    return zone, disk


def _unix(text: str) -> int:
    """A time in Unix seconds; 0 for what is no time."""
    try:
        return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())
    except (ValueError, OverflowError):
        return 0
