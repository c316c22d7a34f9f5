"""Volumes of EBS, read from their snapshots."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from donjon.clouds.ebs import BLOCK_BYTES, PARALLEL, EbsDirect
from donjon.clouds.ebs_blocks import SnapshotReader, ranges
from donjon.clouds.ebs_faults import FIND, translated
from donjon.core.errors import SourceFailed
from donjon.core.units import GIB
from donjon.format.entries import Entry
from donjon.sources.volumes import VolumeItem, VolumeSource

#: What an entry remembers: the snapshot that it was read from, and its volume.
SNAPSHOT_ATTRIBUTE = b"donjon.ebs_snapshot"
VOLUME_ATTRIBUTE = b"donjon.ebs_volume"


@dataclass(frozen=True, slots=True)
class EbsSnapshot:
    """A complete snapshot of a volume. ``created_at`` is in Unix seconds."""

    snapshot_id: str
    volume_id: str
    size_bytes: int
    created_at: int


def find_snapshots(ec2: Any, snapshot_ids: Sequence[str]) -> list[EbsSnapshot]:
    """What EC2 knows of snapshots. ``ec2`` is a client of the SDK.

    Raises ``SourceFailed`` if one does not exist or is not complete, and ``PermissionMissing``.
    """
    try:
        rows = ec2.describe_snapshots(SnapshotIds=list(snapshot_ids))["Snapshots"]
    except Exception as error:
        raise translated(error, FIND, ", ".join(snapshot_ids)) from error
    for row in rows:
        if row["State"] != "completed":
            msg = f"{row['SnapshotId']}: is {row['State']}, so it cannot be read"
            raise SourceFailed(msg, hint="Wait until it is complete.", retryable=row["State"] == "pending")
    return [
        EbsSnapshot(
            row["SnapshotId"],
            row["VolumeId"],
            int(row["VolumeSize"]) * GIB,
            int(row["StartTime"].timestamp()),
        )
        for row in rows
    ]


class EbsSource(VolumeSource):
    """Snapshots of different volumes, each as one file with the name of its volume."""

    def __init__(self, snapshots: Sequence[EbsSnapshot], direct: EbsDirect) -> None:
        super().__init__([EbsItem(snapshot, direct) for snapshot in snapshots])


class EbsItem(VolumeItem):
    """One volume, as of its snapshot."""

    def __init__(self, snapshot: EbsSnapshot, direct: EbsDirect) -> None:
        super().__init__(b"/" + snapshot.volume_id.encode())
        self._snapshot = snapshot
        self._direct = direct

    @property
    def size(self) -> int:
        """In bytes."""
        return self._snapshot.size_bytes

    def same_as(self, previous: Entry) -> bool:
        """Whether it was read from this very snapshot, which never changes."""
        return previous.attribute(SNAPSHOT_ATTRIBUTE) == self._snapshot.snapshot_id.encode()

    def describe(self) -> Entry:
        """A file that belongs to root, as old as the snapshot."""
        facts = {
            SNAPSHOT_ATTRIBUTE: self._snapshot.snapshot_id.encode(),
            VOLUME_ATTRIBUTE: self._snapshot.volume_id.encode(),
        }
        return self.described(self._snapshot.created_at, facts)

    def open_volume(self) -> OpenEbs:
        """Nothing is asked yet."""
        return OpenEbs(self._snapshot, self._direct)


class OpenEbs:
    """A snapshot that is being read."""

    parallel = PARALLEL
    extent_bytes = BLOCK_BYTES

    def __init__(self, snapshot: EbsSnapshot, direct: EbsDirect) -> None:
        self._snapshot = snapshot
        self._direct = direct
        self._reader = SnapshotReader(direct, snapshot.snapshot_id)
        self.size = snapshot.size_bytes
        self.notes: Sequence[str] = ()

    def data(self) -> Iterable[tuple[int, int]]:
        """The blocks that were ever written."""
        return ranges(self._direct.list_blocks(self._snapshot.snapshot_id))

    def changes_since(self, previous: Entry) -> Iterable[tuple[int, int]] | None:
        """What EBS says has changed since the snapshot of the previous point, if that still exists."""
        name = previous.attribute(SNAPSHOT_ATTRIBUTE)
        if name is None or previous.attribute(VOLUME_ATTRIBUTE) != self._snapshot.volume_id.encode():
            return None
        first = name.decode(errors="replace")
        pages = self._direct.list_changed(first, self._snapshot.snapshot_id)
        try:
            page = next(pages)
        except SourceFailed as error:
            if error.retryable:
                raise
            note = f"{self._snapshot.volume_id}: was read in full, as EBS cannot tell what has changed since "
            self.notes = (f"{note}the snapshot of the previous point, {first}: {error.message}",)
            return None
        return ranges(itertools.chain([page], pages))

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer."""
        self._reader.read_into(offset, buffer)

    def close(self) -> list[str]:
        """A snapshot does not change."""
        return []
