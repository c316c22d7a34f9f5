"""Block devices that are shown under the names of the disks that they are of."""

from __future__ import annotations

import msgspec

from donjon.format.entries import Entry
from donjon.sources.block import BlockItem, BlockOptions, OpenBlock
from donjon.sources.item import Context
from donjon.sources.volumes import VolumeItem, VolumeSource


class AttachedDisk(VolumeItem):
    """A disk at ``path`` in the point that is read from ``device`` for a while.

    Owner and mode of the device say nothing of the disk: it is root's, and nobody else's.
    """

    def __init__(self, path: bytes, device: bytes) -> None:
        super().__init__(path)
        self._device = BlockItem(device, BlockOptions(), Context())

    @property
    def size(self) -> int:
        """In bytes."""
        return self._device.size

    def describe(self) -> Entry:
        """See ``VolumeItem``."""
        return msgspec.structs.replace(
            self._device.describe(),
            depth=self.depth,
            name=self.name,
            mode=0o600,
            uid=0,
            gid=0,
            user="root",
            group="root",
            mtime_s=0,
            mtime_ns=0,
        )

    def open_volume(self) -> OpenBlock:
        """See ``VolumeItem``."""
        return self._device.open_volume()


class AttachedSource(VolumeSource):
    """Disks as files. ``devices`` are the devices by the paths that the point has."""

    def __init__(self, devices: dict[bytes, bytes]) -> None:
        super().__init__([AttachedDisk(path, device) for path, device in devices.items()])
