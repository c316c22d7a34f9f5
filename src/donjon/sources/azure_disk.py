"""Managed disks of Azure, read from their snapshots."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from donjon.clouds.azure_disk import PARALLEL, Access, AzureDisks, Place
from donjon.clouds.azure_disk_faults import Missing
from donjon.clouds.azure_pages import PageBlob
from donjon.core.errors import SourceFailed
from donjon.core.units import GIB, MIB
from donjon.format.entries import Entry
from donjon.snapshots.marks import Marks
from donjon.sources.volumes import VolumeItem, VolumeSource

#: What an entry remembers: the snapshot that it was read from, and its disk.
SNAPSHOT_ATTRIBUTE: Final = b"donjon.azure_snapshot"
DISK_ATTRIBUTE: Final = b"donjon.azure_disk"
#: "Differential ... not supported" for snapshots from before and after a disk grew over 4 TB: so are those
#: that begin with 4,095 GiB, the largest of the smaller disks
#: (https://learn.microsoft.com/azure/virtual-machines/disks-incremental-snapshots, restrictions).
_SMALL_BYTES: Final = 4095 * GIB
#: Names become those of files in the point, and tags are whatever somebody wrote there.
_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_DISK: Final = re.compile(
    rf"/subscriptions/[^/]+/resourceGroups/(?P<group>[^/]+)/providers/Microsoft\.Compute/disks/(?P<name>{_NAME})",
    re.IGNORECASE,
)
_MARKED: Final = re.compile(rf"[^/]+/{_NAME}")


@dataclass(frozen=True, slots=True)
class AzureSnapshot:
    """A complete snapshot of a disk, both as GROUP/NAME. ``created_at`` is in Unix seconds."""

    snapshot_id: str
    disk_id: str
    size_bytes: int
    created_at: int

    @property
    def disk_name(self) -> str:
        """Without its group."""
        return self.disk_id.rpartition("/")[2]


def find_snapshots(disks: AzureDisks, places: Sequence[Place]) -> list[AzureSnapshot]:
    """What Azure knows of snapshots, also of those that Donjon did not take.

    Raises ``SourceFailed`` if one does not exist or is not complete, and ``PermissionMissing``.
    """
    return [_found(place, disks.look(place)) for place in places]


def _found(place: Place, said: Mapping[str, Any]) -> AzureSnapshot:
    properties = said.get("properties", {})
    percent, progress = properties.get("completionPercent"), properties.get("provisioningState", "")
    if failure := properties.get("copyCompletionError"):
        msg = f"{place}: is no whole copy: {failure.get('errorMessage') or 'Azure says no more'}"
        raise SourceFailed(msg, hint="Name another snapshot.")
    if progress != "Succeeded" or (percent is not None and percent < 100):
        detail = f"{percent:.0f} %" if progress == "Succeeded" else progress
        msg = f"{place}: is not complete ({detail}), so it cannot be read"
        comes = progress not in {"Failed", "Canceled"}
        hint = "Wait until it is complete." if comes else "Name another snapshot."
        raise SourceFailed(msg, hint=hint, retryable=comes)
    size = int(properties.get("diskSizeBytes") or properties.get("diskSizeGB", 0) * GIB)
    source = str((properties.get("creationData") or {}).get("sourceResourceId") or "")
    return AzureSnapshot(str(place), _disk_of(place, source, said), size, int(_time(properties)))


def _disk_of(place: Place, source: str, said: Mapping[str, Any]) -> str:
    """The disk of a snapshot as GROUP/NAME.

    A copy names the snapshot that it is of, and Donjon's own have a tag for the disk. A snapshot whose disk
    nobody tells stands for itself.
    """
    found = _DISK.fullmatch(source)
    if found is not None:
        return f"{found['group']}/{found['name']}"
    marks = Marks.of(said.get("tags") or {})
    return marks.volume_id if marks and _MARKED.fullmatch(marks.volume_id) else str(place)


class AzureDiskSource(VolumeSource):
    """Snapshots of different disks of a resource group, each as one file with the name of its disk."""

    def __init__(self, snapshots: Sequence[AzureSnapshot], disks: AzureDisks) -> None:
        super().__init__([AzureDiskItem(snapshot, disks) for snapshot in snapshots])


class AzureDiskItem(VolumeItem):
    """One disk, as of its snapshot."""

    def __init__(self, snapshot: AzureSnapshot, disks: AzureDisks) -> None:
        super().__init__(b"/" + snapshot.disk_name.encode())
        self._snapshot = snapshot
        self._disks = disks

    @property
    def size(self) -> int:
        """In bytes."""
        return self._snapshot.size_bytes

    def same_as(self, previous: Entry) -> bool:
        """Whether it was read from this very snapshot, which never changes."""
        is_named = previous.attribute(SNAPSHOT_ATTRIBUTE) == self._snapshot.snapshot_id.encode()
        return is_named and previous.mtime_s == self._snapshot.created_at

    def describe(self) -> Entry:
        """A file that belongs to root, as old as the snapshot."""
        facts = {
            DISK_ATTRIBUTE: self._snapshot.disk_id.encode(),
            SNAPSHOT_ATTRIBUTE: self._snapshot.snapshot_id.encode(),
        }
        return self.described(self._snapshot.created_at, facts)

    def open_volume(self) -> OpenAzureDisk:
        """Nothing is asked yet."""
        return OpenAzureDisk(self._snapshot, self._disks)


class OpenAzureDisk:
    """A snapshot that is being read, and while changes are listed the one before it."""

    parallel = PARALLEL
    extent_bytes = 1 * MIB

    def __init__(self, snapshot: AzureSnapshot, disks: AzureDisks) -> None:
        self._snapshot = snapshot
        self._disks = disks
        self._access = Access(disks, _place(snapshot.snapshot_id))
        self._pages = PageBlob(self._access, snapshot.size_bytes)
        self._previous: Access | None = None
        self._cleared: list[tuple[int, int]] = []  # (offset, end), ascending
        self.size = snapshot.size_bytes
        self.notes: Sequence[str] = ()

    def data(self) -> Iterable[tuple[int, int]]:
        """The pages that were ever written."""
        self._pages.check_size()
        self._cleared = []  # whoever reads all reads these as well
        return self._pages.ranges()

    def changes_since(self, previous: Entry) -> Iterable[tuple[int, int]] | None:
        """What Azure says has changed since the snapshot of the previous point, if it can tell."""
        name = previous.attribute(SNAPSHOT_ATTRIBUTE)
        disk = previous.attribute(DISK_ATTRIBUTE) or b""
        if name is None or disk.lower() != self._snapshot.disk_id.encode().lower():  # as Azure compares names
            return None
        first = name.decode(errors="replace")
        try:
            reason = self._unrelated(self._disks.look(_place(first)))
        except Missing:
            reason = "it is not there any more"
        if reason:
            self._in_full(first, reason)
            return None
        self._pages.check_size()
        self._previous = Access(self._disks, _place(first))
        changes = self._pages.changes(self._previous)
        try:
            start = list(itertools.islice(changes, 1))
        except SourceFailed as error:
            if error.retryable:
                raise
            self._in_full(first, error.message)
            return None
        return self._noted(itertools.chain(start, changes))

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer. What was cleared as a whole is not asked for."""
        at = bisect_right(self._cleared, (offset, self.size + 1)) - 1
        if at >= 0 and offset + len(buffer) <= self._cleared[at][1]:
            buffer[:] = bytes(len(buffer))
        else:
            self._pages.read_into(offset, buffer)

    def close(self) -> list[str]:
        """Take the access back. A snapshot does not change, so there is nothing wrong with what was read."""
        told = [self._access.close(), self._previous.close() if self._previous else ""]
        self.notes = (*self.notes, *filter(None, told))
        return []

    def _noted(self, changes: Iterable[tuple[int, int, bool]]) -> Iterator[tuple[int, int]]:
        for offset, length, is_cleared in changes:
            if is_cleared:
                self._cleared.append((offset, offset + length))
            yield offset, length

    def _in_full(self, first: str, reason: str) -> None:
        note = f"{self._snapshot.disk_id}: was read in full, as Azure cannot tell what has changed since "
        self.notes = (f"{note}the snapshot of the previous point, {first}: {reason}",)

    def _unrelated(self, said: Mapping[str, Any]) -> str:
        """Why the two snapshots cannot be compared; empty if they can."""
        then = said.get("properties", {})
        now = self._disks.look(_place(self._snapshot.snapshot_id)).get("properties", {})
        family = "incrementalSnapshotFamilyId"
        if not now.get(family) or then.get(family) != now.get(family):
            return "they are not of one family of incremental snapshots"
        if _time(then) >= _time(now):
            return "it is not the older one"
        size = int(then.get("diskSizeBytes") or 0)
        if size != self.size and self.size > _SMALL_BYTES and size <= _SMALL_BYTES + GIB:
            return "the disk has grown over 4 TB"
        return ""


def _time(properties: Mapping[str, Any]) -> float:
    text = str(properties.get("timeCreated", ""))
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def _place(name: str) -> Place:
    group, _, last = name.partition("/")
    return Place(group, last, is_disk=False)
