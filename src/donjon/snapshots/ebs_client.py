"""What EC2 tells of volumes, instances and snapshots: its listings, page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from donjon.core.operations import Operation
from donjon.snapshots import ebs_calls as calls

#: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html
_MAX_FILTER_VALUES: Final = 200
_HOLDS: Final = {"compliance", "compliance-cooloff", "governance"}


class Ec2:
    """Asks once, through a client of the SDK; raises errors of ours alone. ``region`` is for messages."""

    def __init__(self, client: Any, region: str) -> None:
        self._client = client
        self._region = region

    def snapshots(self, filters: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return list(
            self.pages(calls.SNAPSHOTS, "Snapshots", self._region, Filters=list(filters), OwnerIds=["self"])
        )

    def locks(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """The locks that hold, by snapshot."""
        return {
            one["SnapshotId"]: one
            for some in chunks(ids)
            for one in self.pages(calls.LOCKED, "Snapshots", self._region, SnapshotIds=list(some))
            if one.get("LockState") in _HOLDS
        }

    def volumes(self, volumes: Sequence[str]) -> list[Mapping[str, Any]]:
        what = ", ".join(volumes)
        return [
            one
            for some in chunks(volumes)
            for one in self.pages(calls.VOLUMES, "Volumes", what, VolumeIds=list(some))
        ]

    def instances(self, instances: Sequence[str]) -> list[Mapping[str, Any]]:
        what = ", ".join(instances)
        pages = self.pages(calls.INSTANCES, "Reservations", what, InstanceIds=list(instances))
        return [instance for reservation in pages for instance in reservation["Instances"]]

    def pages(
        self, operation: Operation, member: str, what: str, **asked: Any
    ) -> Iterable[Mapping[str, Any]]:
        """Everything that a listing gives."""
        token: str | None = None
        while True:
            more = {"NextToken": token} if token else {}
            answer = self.ask(operation, what, **asked, **more)
            yield from answer.get(member, [])
            token = answer.get("NextToken")
            if not token:
                return

    def ask(self, operation: Operation, what: str, **asked: Any) -> Any:
        method: Callable[..., Any] = getattr(self._client, operation.method)
        try:
            return method(**asked)
        except Exception as error:
            raise calls.translated(error, operation, what, self._region) from error


def chunks(ids: Sequence[str]) -> list[Sequence[str]]:
    """Ids in as many requests as they take."""
    return [ids[start : start + _MAX_FILTER_VALUES] for start in range(0, len(ids), _MAX_FILTER_VALUES)]


def attached(instance: Mapping[str, Any]) -> set[str]:
    """The volumes that an instance has."""
    return {one["Ebs"]["VolumeId"] for one in instance.get("BlockDeviceMappings", []) if "Ebs" in one}


def boot(instance: Mapping[str, Any]) -> str:
    """The volume that an instance starts from, empty if that is no volume of EBS."""
    root = instance.get("RootDeviceName")
    return next(
        (
            str(one["Ebs"]["VolumeId"])
            for one in instance.get("BlockDeviceMappings", [])
            if one.get("DeviceName") == root and "Ebs" in one
        ),
        "",
    )
