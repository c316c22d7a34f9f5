"""Incremental snapshots of managed disks of Azure.

Volumes and snapshots are named ``RESOURCE-GROUP/NAME`` in the subscription. Each disk is of a moment of its
own. A snapshot's name follows from its workload, set and disk, so a call whose answer was lost is found
again. Rules: https://learn.microsoft.com/azure/virtual-machines/disks-incremental-snapshots
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from donjon.core.clock import SECONDS_PER_DAY, iso
from donjon.core.errors import DonjonError, LocksUnsupported, ObjectLocked, Refused, SnapshotFailed
from donjon.core.operations import Operation
from donjon.core.units import GIB
from donjon.snapshots import azure_calls as calls
from donjon.snapshots.azure_calls import PERMISSIONS, connect
from donjon.snapshots.base import Snapshot, SnapshotState
from donjon.snapshots.marks import Marks, check_names
from donjon.snapshots.patience import Patience

__all__ = ["PERMISSIONS", "AzureDiskSnapshots", "connect"]

#: How long a deletion that Azure accepted may take.
_DELETION_S: Final = 600.0
_LOCKED: Final = "Locked"


class AzureDiskSnapshots:
    """See ``Snapshots``. ``client`` is a ``ComputeManagementClient`` of the subscription ``account``.

    Snapshots are put into ``resource_group``. ``copy_key`` is the id of a disk encryption set.
    """

    def __init__(
        self,
        client: Any,
        *,
        account: str,
        region: str,
        resource_group: str,
        copy_key: str = "",
        patience: Patience | None = None,
    ) -> None:
        self._client = client
        self.account: Final = account
        self.region: Final = region
        self._group = resource_group
        self._copy_key = copy_key
        self._patience = patience or Patience()

    def __repr__(self) -> str:
        return f"AzureDiskSnapshots({self.account}, {self._group}, {self.region})"

    def select(self, *, disks: Sequence[str] = (), tags: Mapping[str, str] | None = None) -> Sequence[str]:
        """The disks of the group that are named or have all of ``tags``, as ``GROUP/NAME``; sorted.

        Raises ``SnapshotFailed`` if one that is named does not exist, or nothing is found.
        """
        found = {f"{self._group}/{name}" for name in disks}
        for volume in sorted(found):
            self._disk(volume)
        if tags:
            for one in self._patience.call(lambda: self._listed(self._client.disks, calls.DISKS)):
                if tags.items() <= dict(one.get("tags") or {}).items():
                    found.add(f"{self._group}/{one.get('name', '')}")
        if not found:
            msg = f"{self.account}/{self._group}: no disk has the tags {dict(tags or {})}"
            raise SnapshotFailed(msg, hint="Correct the tags or the resource group in the plan.")
        return sorted(found)

    def create(self, volumes: Sequence[str], *, workload: str, set_id: str) -> list[Snapshot]:
        """See ``Snapshots``."""
        check_names(workload, set_id)
        made: list[Snapshot] = []
        names = [self._named(_name(workload, set_id, volume)) for volume in volumes]
        try:
            for volume, snapshot_id in zip(volumes, names, strict=True):
                marks = Marks(workload, set_id, len(set(volumes)), volume, volume)
                made.append(self._patience.call(partial(self._take, volume, snapshot_id, marks)))
        except DonjonError:
            self._undo(names, workload, set_id)
            raise
        return made

    def wait(self, snapshots: Sequence[Snapshot], *, timeout_s: float) -> list[Snapshot]:
        """See ``Snapshots``."""

        def look(waiting: Sequence[Snapshot]) -> dict[str, Snapshot]:
            found = [self._patience.call(partial(self._found, one.snapshot_id)) for one in waiting]
            return {one.snapshot_id: one for one in found if one is not None}

        return self._patience.wait(snapshots, look, timeout_s)

    def copy(self, snapshot: Snapshot, *, key: str = "") -> Snapshot:
        """See ``Snapshots``. Azure copies those of a disk in the order in which they were taken.

        Rules: https://learn.microsoft.com/azure/virtual-machines/disks-copy-incremental-snapshot-across-regions
        """
        if snapshot.state is not SnapshotState.COMPLETE:
            msg = f"{snapshot.snapshot_id}: is not complete, so it cannot be copied"
            raise Refused(msg, hint="Wait until it is complete.")
        marks = Marks(
            snapshot.workload, snapshot.set_id, snapshot.set_size, snapshot.moment, snapshot.volume_id,
            snapshot.snapshot_id,
        )  # fmt: skip
        name = _name(snapshot.workload, snapshot.set_id, f"{snapshot.account}/{snapshot.volume_id}")
        snapshot_id = self._named(name)
        return self._patience.call(lambda: self._copy(snapshot, snapshot_id, marks, key or self._copy_key))

    def share(self, snapshot: Snapshot, account: str) -> None:
        """See ``Snapshots``: nothing has to be done, for whoever copies it needs a role on it and no more."""

    def lock(self, snapshot: Snapshot, *, retain_until: int) -> Snapshot:
        """See ``Snapshots``. Azure counts days from a start that it chooses, so it may be a day longer."""
        return self._patience.call(lambda: self._lock(snapshot, retain_until))

    def delete(self, snapshot: Snapshot) -> None:
        """See ``Snapshots``. Returns when Azure has deleted it."""
        gone = self._patience.call(lambda: self._delete(snapshot))
        waited_s = 1.0
        deadline = self._patience.monotonic() + _DELETION_S
        while not gone and self._patience.monotonic() < deadline:
            self._patience.sleep(waited_s)
            waited_s = min(2 * waited_s, 30.0)
            gone = self._patience.call(lambda: self._raw(snapshot.snapshot_id)) is None
        if not gone:
            msg = f"{snapshot.snapshot_id}: Azure took the order to delete it and has not done so"
            raise SnapshotFailed(msg, hint="Look at it in the portal.", retryable=True)

    def list(self, workload: str | None = None) -> Iterator[Snapshot]:
        """See ``Snapshots``."""
        for said in self._patience.call(lambda: self._listed(self._client.snapshots, calls.SNAPSHOTS)):
            marks = Marks.of(said.get("tags") or {})
            here = _plain(said.get("location", "")) == _plain(self.region)
            if marks is not None and here and workload in {None, marks.workload}:
                yield self._snapshot(f"{self._group}/{said.get('name', '')}", said, marks)

    def _take(self, volume: str, snapshot_id: str, marks: Marks) -> Snapshot:
        present = self._own(snapshot_id, marks)
        if present is not None and present.state is not SnapshotState.FAILED:
            return present
        if present is not None:
            self._delete(present)
            raise calls.TryAgain(f"{snapshot_id}: an earlier snapshot of this name failed")
        disk = self._disk(volume)
        there = str(disk.get("location", ""))
        if _plain(there) != _plain(self.region):
            msg = f"{volume}: is in {there}, and the plan says {self.region}"
            raise SnapshotFailed(msg, hint="Correct the region of the site in the plan.")
        source = {"createOption": "Copy", "sourceResourceId": self._arm("disks", volume)}
        return self._put(calls.CREATE, volume, snapshot_id, marks, {"creationData": source})

    def _copy(self, snapshot: Snapshot, snapshot_id: str, marks: Marks, key: str) -> Snapshot:
        present = self._own(snapshot_id, marks)
        if present is not None and present.state is not SnapshotState.FAILED:
            return present
        if present is not None:
            self._delete(present)
            raise calls.TryAgain(f"{snapshot_id}: an earlier copy of this name failed")
        far = _plain(snapshot.region) != _plain(self.region)
        group, name = _parts(snapshot.snapshot_id)
        source = f"/subscriptions/{snapshot.account}/resourceGroups/{group}{_PROVIDER}/snapshots/{name}"
        properties: dict[str, Any] = {
            "creationData": {"createOption": "CopyStart" if far else "Copy", "sourceResourceId": source}
        }
        if key:
            encryption = {"type": "EncryptionAtRestWithCustomerKey", "diskEncryptionSetId": key}
            properties["encryption"] = encryption
        return self._put(calls.COPY, snapshot.snapshot_id, snapshot_id, marks, properties)

    def _put(
        self,
        operation: Operation,
        what: str,
        snapshot_id: str,
        marks: Marks,
        properties: Mapping[str, Any],
    ) -> Snapshot:
        body = {
            "location": self.region,
            "tags": marks.tags,
            "properties": {"incremental": True, **properties},
        }
        self._ask(operation, what, self._client.snapshots, *_parts(snapshot_id), body, polling=False)
        made = self._found(snapshot_id)
        if made is None:
            raise calls.TryAgain(f"{snapshot_id}: is not there, though Azure took the order for it")
        return made

    def _lock(self, snapshot: Snapshot, retain_until: int) -> Snapshot:
        found = self._own(snapshot.snapshot_id, _marks(snapshot))
        if found is None:
            raise calls.Missing(f"{snapshot.snapshot_id}: is not there", hint="Somebody deleted it.")
        for _ in range(3):
            policy = self._policy(snapshot.snapshot_id)
            ends, locked = _unix(policy.get("policyExpirationTime")), policy.get("type") == _LOCKED
            if locked and retain_until <= ends:
                return self._found(snapshot.snapshot_id) or found
            start = _unix(policy.get("policyStartTime")) or found.created_at
            days = max(
                -(-(retain_until - start) // SECONDS_PER_DAY),
                int(policy.get("immutabilityDurationDays") or 1),
            )
            if policy and ends < retain_until:  # its start may be another one than it seemed
                missing = -(-(retain_until - ends) // SECONDS_PER_DAY)
                days = max(days, int(policy.get("immutabilityDurationDays") or 0) + missing)
            steps = (
                [(calls.LOCK, _LOCKED)] if policy else [(calls.PROTECT, "Unlocked"), (calls.LOCK, _LOCKED)]
            )
            for operation, kind in steps:
                body = {"immutabilityDurationDays": days, "type": kind}
                names = _parts(snapshot.snapshot_id)
                what = snapshot.snapshot_id
                self._ask(operation, what, self._client.snapshots, *names, body, polling=False)
        msg = f"{snapshot.snapshot_id}: Azure took a lock until {iso(retain_until)} and does not have it"
        raise LocksUnsupported(msg, hint="Look at the immutability policy of the snapshot.")

    def _policy(self, snapshot_id: str) -> Mapping[str, Any]:
        """The policy that is in force; empty for none."""
        said = self._raw(snapshot_id) or {}
        policy = said.get("properties", {}).get("immutabilityPolicy") or {}
        return {} if policy.get("isPolicyExpired") else policy

    def _delete(self, snapshot: Snapshot) -> bool:
        """Order it; whether it is gone. How Azure refuses a locked one is not documented: look before."""
        found = self._own(snapshot.snapshot_id, _marks(snapshot))
        if found is None:
            return True
        if found.locked_until:
            msg = f"{snapshot.snapshot_id}: is locked until {iso(found.locked_until)}"
            hint = "Wait until its lock has ended; nobody can shorten it."
            raise ObjectLocked(msg, retain_until=found.locked_until, hint=hint)
        names = _parts(snapshot.snapshot_id)
        try:
            self._ask(calls.DELETE, snapshot.snapshot_id, self._client.snapshots, *names, polling=False)
        except calls.Missing:
            return True
        return self._raw(snapshot.snapshot_id) is None

    def _undo(self, names: Sequence[str], workload: str, set_id: str) -> None:
        """Delete what a set has that cannot be whole. What is left, for want of permission, expires later."""
        for snapshot_id in names:
            try:
                found = self._patience.call(partial(self._found, snapshot_id))
                if found is not None and (found.workload, found.set_id) == (workload, set_id):
                    self.delete(found)
            except DonjonError:
                continue  # the error that led here says more

    def _own(self, snapshot_id: str, marks: Marks) -> Snapshot | None:
        """What is there; None for nothing. Raises ``Refused`` if it is not the one meant."""
        said = self._raw(snapshot_id)
        if said is None:
            return None
        found = Marks.of(said.get("tags") or {})
        if found is None or (found.workload, found.set_id) != (marks.workload, marks.set_id):
            msg = f"{snapshot_id}: has not the marks of {marks.workload}, set {marks.set_id}"
            hint = "Donjon touches only snapshots that it made; find out who changed the tags."
            raise Refused(msg, hint=hint)
        return self._snapshot(snapshot_id, said, found)

    def _found(self, snapshot_id: str) -> Snapshot | None:
        """What there is of Donjon's under a name."""
        said = self._raw(snapshot_id)
        marks = Marks.of(said.get("tags") or {}) if said is not None else None
        return self._snapshot(snapshot_id, said, marks) if said is not None and marks is not None else None

    def _raw(self, snapshot_id: str) -> Mapping[str, Any] | None:
        try:
            answer = self._ask(calls.SNAPSHOT, snapshot_id, self._client.snapshots, *_parts(snapshot_id))
        except calls.Missing:
            return None
        said: Mapping[str, Any] = answer.as_dict()
        return said

    def _disk(self, volume: str) -> Mapping[str, Any]:
        said: Mapping[str, Any] = self._ask(calls.DISK, volume, self._client.disks, *_parts(volume)).as_dict()
        return said

    def _listed(self, of: Any, operation: Operation) -> Sequence[Mapping[str, Any]]:
        what = f"{self.account}/{self._group}"
        try:
            return [one.as_dict() for one in of.list_by_resource_group(self._group)]
        except Exception as error:
            raise calls.translated(error, operation, what) from error

    @staticmethod
    def _ask(operation: Operation, what: str, of: Any, *values: Any, **options: Any) -> Any:
        try:
            return getattr(of, operation.method)(*values, **options)
        except Exception as error:
            raise calls.translated(error, operation, what) from error

    def _named(self, name: str) -> str:
        return f"{self._group}/{name}"

    def _arm(self, kind: str, name: str) -> str:
        group, last = _parts(name)
        return f"/subscriptions/{self.account}/resourceGroups/{group}{_PROVIDER}/{kind}/{last}"

    def _snapshot(self, snapshot_id: str, said: Mapping[str, Any], marks: Marks) -> Snapshot:
        properties = said.get("properties", {})
        policy = properties.get("immutabilityPolicy") or {}
        percent, progress = properties.get("completionPercent"), properties.get("provisioningState", "")
        failure = properties.get("copyCompletionError") or {}
        state = SnapshotState.PENDING
        if progress in {"Failed", "Canceled"} or failure:
            state = SnapshotState.FAILED
        elif progress == "Succeeded" and (percent is None or percent >= 100):
            state = SnapshotState.COMPLETE
        ends = 0 if policy.get("isPolicyExpired") else _unix(policy.get("policyExpirationTime"))
        return Snapshot(
            snapshot_id=snapshot_id,
            volume_id=marks.volume_id,
            workload=marks.workload,
            set_id=marks.set_id,
            created_at=_unix(properties.get("timeCreated")),
            size_bytes=int(properties.get("diskSizeBytes") or properties.get("diskSizeGB", 0) * GIB),
            state=state,
            account=self.account,
            region=self.region,
            set_size=marks.set_size,
            moment=marks.moment,
            locked_until=ends,
            key=(properties.get("encryption") or {}).get("diskEncryptionSetId", ""),
            origin=marks.origin,
            detail=failure.get("errorMessage") or (f"{percent:.0f} %" if percent is not None else progress),
        )


_PROVIDER: Final = "/providers/Microsoft.Compute"


def _name(workload: str, set_id: str, volume: str) -> str:
    """A name that follows from what the snapshot is of; Azure takes 80 letters, digits, '_' and '-'."""
    digest = hashlib.sha256(f"{workload}\0{volume}".encode()).hexdigest()
    return f"donjon-{set_id}-{digest[:16]}"


def _marks(snapshot: Snapshot) -> Marks:
    return Marks(snapshot.workload, snapshot.set_id, snapshot.set_size)


def _parts(name: str) -> tuple[str, str]:
    group, found, last = name.partition("/")
    if not found or not group or not last or "/" in last:
        msg = f"{name!r}: is no name of a disk or snapshot of Azure"
        raise SnapshotFailed(msg, hint="Write RESOURCE-GROUP/NAME.")
    return group, last


def _plain(region: str) -> str:
    """Regions are written with blanks and capitals by some tools: "West Europe"."""
    return region.replace(" ", "").lower()


def _unix(text: str | None) -> int:
    """A time in Unix seconds; 0 for none, and for what is no time."""
    try:
        return int(datetime.fromisoformat((text or "").replace("Z", "+00:00")).timestamp())
    except (ValueError, OverflowError):
        return 0
