"""Snapshots of EBS volumes.

All volumes of one instance are taken at one moment, by one request
(https://docs.aws.amazon.com/ebs/latest/userguide/ebs-create-snapshots.html); those of several instances, and
volumes that are attached to none, one after another. EC2 takes no token of the client's for snapshots, so
after a lost answer they are found by the tag of their set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from donjon.clouds import aws
from donjon.core.clock import SECONDS_PER_DAY, iso
from donjon.core.errors import DonjonError, LocksUnsupported, ObjectLocked, Refused, SnapshotFailed
from donjon.core.units import GIB
from donjon.snapshots import ebs_calls as calls
from donjon.snapshots.base import Snapshot, SnapshotState
from donjon.snapshots.ebs_calls import PERMISSIONS
from donjon.snapshots.ebs_client import Ec2, attached, boot, chunks
from donjon.snapshots.marks import ORIGIN_TAG, SET_TAG, TAG, Marks, check_names
from donjon.snapshots.patience import Patience, vanished

__all__ = ["PERMISSIONS", "EbsSnapshots", "connect"]

_STATES: Final = {"completed": SnapshotState.COMPLETE, "error": SnapshotState.FAILED}
_LOCKED_FOR_GOOD: Final = {"compliance", "compliance-cooloff"}


def connect(region: str, *, profile: str | None = None, endpoint: str | None = None) -> Any:
    """A client of EC2. Raises ``UsageError`` if the SDK is not installed or has no such profile."""
    return aws.client(
        "ec2", "EBS", region=region, profile=profile, endpoint=endpoint, connect_timeout=20, read_timeout=60
    )


@dataclass(frozen=True, slots=True)
class _Moment:
    """Volumes that are taken by one request. ``instance`` is empty for a volume that is taken by itself."""

    instance: str
    volumes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.instance or self.volumes[0]


class EbsSnapshots:
    """See ``Snapshots``. ``client`` is one of EC2 in ``region``, with a credential of ``account``."""

    def __init__(
        self,
        client: Any,
        *,
        account: str,
        region: str,
        copy_key: str = "",
        cool_off_hours: int | None = None,
        patience: Patience | None = None,
    ) -> None:
        """``copy_key`` encrypts copies that are made here unless another one is named.

        ``cool_off_hours``, 1 to 72, is how long a new lock can still be taken off; by default never."""
        self._patience = patience or Patience()
        self._ec2 = Ec2(client, region)
        self.account: Final = account
        self.region: Final = region
        self._copy_key = copy_key
        self._cool_off_hours = cool_off_hours

    def __repr__(self) -> str:
        return f"EbsSnapshots({self.account}, {self.region})"

    def select(
        self,
        *,
        volumes: Sequence[str] = (),
        instances: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
    ) -> Sequence[str]:
        """The ids of the volumes that are named, attached to instances, or have all of ``tags``; sorted.

        Raises ``SnapshotFailed`` if one that is named does not exist, or nothing is found.
        """
        return self._patience.call(lambda: self._select(volumes, instances, tags or {}))

    def create(self, volumes: Sequence[str], *, workload: str, set_id: str) -> list[Snapshot]:
        """See ``Snapshots``."""
        check_names(workload, set_id)
        made: dict[str, Snapshot] = {}
        try:
            for moment in self._patience.call(lambda: self._moments(volumes)):
                marks = Marks(workload, set_id, len(set(volumes)), moment.name)
                made |= self._patience.call(partial(self._take, moment, marks))
        except DonjonError:
            self._undo(workload, set_id)
            raise
        return [made[volume] for volume in volumes]

    def wait(self, snapshots: Sequence[Snapshot], *, timeout_s: float) -> list[Snapshot]:
        """See ``Snapshots``."""

        def look(waiting: Sequence[Snapshot]) -> dict[str, Snapshot]:
            ids = [one.snapshot_id for one in waiting]
            return {one.snapshot_id: one for one in self._patience.call(lambda: self._by_id(ids))}

        return self._patience.wait(snapshots, look, timeout_s)

    def copy(self, snapshot: Snapshot, *, key: str = "") -> Snapshot:
        """See ``Snapshots``. ``key`` is the ARN of a key of this region.

        Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopySnapshot.html
        """
        if snapshot.state is not SnapshotState.COMPLETE:
            msg = f"{snapshot.snapshot_id}: is not complete, so it cannot be copied"
            raise Refused(msg, hint="Wait until it is complete.")
        marks = Marks(
            snapshot.workload, snapshot.set_id, snapshot.set_size, snapshot.moment, snapshot.volume_id,
            snapshot.snapshot_id,
        )  # fmt: skip
        return self._patience.call(lambda: self._copy(snapshot, marks, key or self._copy_key))

    def share(self, snapshot: Snapshot, account: str) -> None:
        """See ``Snapshots``. An account of another key needs a grant on the key of the snapshot, too."""

        def ask() -> None:
            self._own(snapshot)
            self._ec2.ask(
                calls.SHARE, snapshot.snapshot_id, SnapshotId=snapshot.snapshot_id, UserIds=[account],
                Attribute="createVolumePermission", OperationType="add",
            )  # fmt: skip

        self._patience.call(ask)

    def lock(self, snapshot: Snapshot, *, retain_until: int) -> Snapshot:
        """See ``Snapshots``: a lock in compliance mode, which nobody shortens once its cool-off has ended.

        Source: https://docs.aws.amazon.com/ebs/latest/userguide/snapshot-lock-concepts.html
        """
        return self._patience.call(lambda: self._lock(snapshot, retain_until))

    def list(self, workload: str | None = None) -> Iterator[Snapshot]:
        """See ``Snapshots``."""
        wanted = (
            {"Name": f"tag:{TAG}", "Values": [workload]} if workload else {"Name": "tag-key", "Values": [TAG]}
        )
        yield from self._patience.call(lambda: self._described([wanted]))

    def delete(self, snapshot: Snapshot) -> None:
        """See ``Snapshots``."""
        self._patience.call(lambda: self._delete(snapshot))

    def _select(
        self, volumes: Sequence[str], instances: Sequence[str], tags: Mapping[str, str]
    ) -> Sequence[str]:
        found = {one["VolumeId"] for one in self._ec2.volumes(volumes)}
        if instances:
            found |= {volume for one in self._ec2.instances(instances) for volume in attached(one)}
        if tags:
            wanted = [{"Name": f"tag:{name}", "Values": [value]} for name, value in tags.items()]
            pages = self._ec2.pages(calls.VOLUMES, "Volumes", f"volumes with {dict(tags)}", Filters=wanted)
            found |= {one["VolumeId"] for one in pages}
        if not found:
            msg = f"{self.account}, {self.region}: nothing has the tags {dict(tags)}"
            hint = "Correct the tags or instances in the plan, or the region of its site."
            raise SnapshotFailed(msg, hint=hint)
        return sorted(found)

    def _take(self, moment: _Moment, marks: Marks) -> dict[str, Snapshot]:
        """The snapshots of one moment by volume; those of an earlier try count if they are all there."""
        present = self._members(marks.workload, marks.set_id, moment.volumes)
        good = {one.volume_id: one for one in present if one.state is not SnapshotState.FAILED}
        if good.keys() == set(moment.volumes):
            return good
        for one in present:
            self._delete(one)
        tags = _tagged(marks)
        if moment.instance:
            answers = self._take_together(moment, tags)
        else:
            volume = moment.volumes[0]
            answers = [self._ec2.ask(calls.CREATE, volume, VolumeId=volume, Description=_text(marks), **tags)]
        taken = {answer["VolumeId"]: self._snapshot(answer, marks, {}) for answer in answers}
        if taken.keys() != set(moment.volumes):
            for one in taken.values():
                self._delete(one)
            msg = f"{moment.name}: other volumes were attached than a moment before"
            raise calls.TryAgain(msg, hint="Run it again when nobody attaches or detaches volumes.")
        return taken

    def _take_together(self, moment: _Moment, tags: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Ask for all volumes of an instance but those that nobody wants."""
        instance = self._ec2.instances([moment.instance])[0]
        root = boot(instance)
        spec: dict[str, Any] = {
            "InstanceId": moment.instance,
            "ExcludeBootVolume": root not in moment.volumes,
        }
        unwanted = sorted(attached(instance) - set(moment.volumes) - {root})
        if unwanted:
            spec["ExcludeDataVolumeIds"] = unwanted
        answer = self._ec2.ask(calls.CREATE_SET, moment.instance, InstanceSpecification=spec, **tags)
        return [*answer["Snapshots"]]

    def _undo(self, workload: str, set_id: str) -> None:
        """Delete what a set has that cannot be whole. What is left, for want of permission, expires later."""
        try:
            for one in self._patience.call(lambda: self._members(workload, set_id)):
                self.delete(one)
        except DonjonError:
            return  # the error that led here says more

    def _copy(self, snapshot: Snapshot, marks: Marks, key: str) -> Snapshot:
        there = self._described([{"Name": f"tag:{ORIGIN_TAG}", "Values": [snapshot.snapshot_id]}])
        for one in there:
            if one.state is not SnapshotState.FAILED:
                return one
        more: dict[str, Any] = {"Encrypted": True, "KmsKeyId": key} if key else {}
        answer = self._ec2.ask(
            calls.COPY, snapshot.snapshot_id, SourceRegion=snapshot.region,
            SourceSnapshotId=snapshot.snapshot_id, Description=_text(marks), **more, **_tagged(marks),
        )  # fmt: skip
        return replace(
            snapshot, snapshot_id=answer["SnapshotId"], state=SnapshotState.PENDING, account=self.account,
            region=self.region, key=key or snapshot.key, origin=snapshot.snapshot_id, locked_until=0,
            detail="",
        )  # fmt: skip

    def _lock(self, snapshot: Snapshot, retain_until: int) -> Snapshot:
        found = self._own(snapshot)
        held = self._ec2.locks([found.snapshot_id]).get(found.snapshot_id)
        if held and held["LockState"] in _LOCKED_FOR_GOOD and _until(held) >= retain_until:
            return found
        until = max(retain_until, found.locked_until)
        more = {"CoolOffPeriod": self._cool_off_hours} if self._cool_off_hours and not held else {}
        self._ec2.ask(
            calls.LOCK, found.snapshot_id, SnapshotId=found.snapshot_id, LockMode="compliance",
            ExpirationDate=datetime.fromtimestamp(until, UTC), **more,
        )  # fmt: skip
        held = self._ec2.locks([found.snapshot_id]).get(found.snapshot_id)
        if not held or held["LockState"] not in _LOCKED_FOR_GOOD or _until(held) < until - 60:
            msg = f"{found.snapshot_id}: EC2 took a lock until {iso(until)} and does not have it"
            raise LocksUnsupported(msg, hint="Look at the snapshot with `aws ec2 describe-locked-snapshots`.")
        return replace(found, locked_until=_until(held))

    def _delete(self, snapshot: Snapshot) -> None:
        try:
            found = self._own(snapshot)
            self._ec2.ask(calls.DELETE, found.snapshot_id, SnapshotId=found.snapshot_id)
        except calls.Missing:
            return  # an earlier try deleted it, or somebody else
        except ObjectLocked as error:
            until = self._ec2.locks([snapshot.snapshot_id]).get(snapshot.snapshot_id)
            retain_until = _until(until) if until else 0
            msg = f"{snapshot.snapshot_id}: is locked until {iso(retain_until)}" if until else error.message
            raise ObjectLocked(msg, retain_until=retain_until, hint=error.hint) from error

    def _own(self, snapshot: Snapshot) -> Snapshot:
        """What the provider says of it now. Raises ``Refused`` if it is not, or no more, the one meant."""
        there = self._ec2.snapshots([{"Name": "snapshot-id", "Values": [snapshot.snapshot_id]}])
        if not there:
            raise calls.Missing(vanished(snapshot).message, hint=vanished(snapshot).hint)
        marks = Marks.of(_tags(there[0]))
        if marks is None or (marks.workload, marks.set_id) != (snapshot.workload, snapshot.set_id):
            msg = f"{snapshot.snapshot_id}: has not the marks of {snapshot.workload}, set {snapshot.set_id}"
            raise Refused(
                msg, hint="Donjon touches only snapshots that it made; find out who changed the tags."
            )
        return self._snapshot(there[0], marks, self._ec2.locks([snapshot.snapshot_id]))

    def _members(self, workload: str, set_id: str, volumes: Sequence[str] = ()) -> Sequence[Snapshot]:
        """What is there of a set, by default of all its volumes; no copies. Locks are not looked at."""
        filters = [
            {"Name": f"tag:{TAG}", "Values": [workload]},
            {"Name": f"tag:{SET_TAG}", "Values": [set_id]},
        ]
        return [
            one for one in self._described(filters, with_locks=False)
            if not one.origin and (not volumes or one.volume_id in volumes)
        ]  # fmt: skip

    def _by_id(self, ids: Sequence[str]) -> Sequence[Snapshot]:
        """Those of Donjon's that exist. A filter finds what is there; ids would fail if one is missing."""
        return [
            one
            for some in chunks(ids)
            for one in self._described([{"Name": "snapshot-id", "Values": [*some]}])
        ]

    def _described(
        self, filters: Sequence[Mapping[str, Any]], *, with_locks: bool = True
    ) -> Sequence[Snapshot]:
        marked = [(one, marks) for one in self._ec2.snapshots(filters) if (marks := Marks.of(_tags(one)))]
        locks = self._ec2.locks([one["SnapshotId"] for one, _ in marked]) if with_locks else {}
        return [self._snapshot(one, marks, locks) for one, marks in marked]

    def _moments(self, volumes: Sequence[str]) -> Sequence[_Moment]:
        """Which volumes are taken together: those of one instance."""
        by_instance: dict[str, list[str]] = {}
        for one in self._ec2.volumes([*dict.fromkeys(volumes)]):
            owners = [a["InstanceId"] for a in one.get("Attachments", []) if a.get("State") == "attached"]
            by_instance.setdefault(min(owners, default=""), []).append(one["VolumeId"])
        alone = by_instance.pop("", [])
        alone += [members.pop() for members in by_instance.values() if len(members) == 1]
        together = [_Moment(instance, tuple(ids)) for instance, ids in by_instance.items() if ids]
        return together + [_Moment("", (volume,)) for volume in sorted(alone)]

    def _snapshot(
        self, said: Mapping[str, Any], marks: Marks, locks: Mapping[str, Mapping[str, Any]]
    ) -> Snapshot:
        held = locks.get(said["SnapshotId"])
        detail = " ".join(filter(None, (said.get("StateMessage", ""), said.get("Progress", ""))))
        return Snapshot(
            snapshot_id=said["SnapshotId"],
            volume_id=marks.volume_id or said["VolumeId"],
            workload=marks.workload,
            set_id=marks.set_id,
            created_at=int(said["StartTime"].timestamp()),
            size_bytes=int(said["VolumeSize"]) * GIB,
            state=_STATES.get(said.get("State", ""), SnapshotState.PENDING),
            account=said.get("OwnerId") or self.account,
            region=self.region,
            set_size=marks.set_size,
            moment=marks.moment,
            locked_until=_until(held) if held else 0,
            key=said.get("KmsKeyId", ""),
            origin=marks.origin,
            detail=detail,
        )


def _tagged(marks: Marks) -> dict[str, Any]:
    tags = [{"Key": name, "Value": value} for name, value in marks.tags.items()]
    return {"TagSpecifications": [{"ResourceType": "snapshot", "Tags": tags}]}


def _text(marks: Marks) -> str:
    return f"Donjon: {marks.workload}, set {marks.set_id}"


def _tags(said: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in said.get("Tags", [])}


def _until(held: Mapping[str, Any]) -> int:
    """When a lock ends. That of a pending snapshot counts from its completion, so it has no end yet."""
    if ends := held.get("LockExpiresOn"):
        return int(ends.timestamp())
    return int(held["LockCreatedOn"].timestamp()) + int(held.get("LockDuration", 1)) * SECONDS_PER_DAY
