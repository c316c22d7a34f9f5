"""A fake of managed disks of Azure for the tests, and what speaks to it: Azure's own clients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from donjon.clouds.azure_disk import AzureDisks
from donjon.core.clock import system_clock
from donjon.core.pace import Pace
from donjon.sources.azure_disk import AzureDiskSource, AzureSnapshot
from donjon.targets.azure_disk import AzureDiskAddress, AzureDiskTarget
from donjon.testing.azure.pages import PAGE
from donjon.testing.azure.snapshots import AzureSnapshotsFront, azure_snapshots
from tests.integration.volumes import GIB, sparse

SUBSCRIPTION = "00000000-0000-0000-0000-00000000000a"
URL = f"azure-disk://{SUBSCRIPTION}/rg/new?region=westeurope"
SIZE = 4 * GIB


class Cloud:
    """The fake, and what speaks to it."""

    def __init__(self, front: AzureSnapshotsFront, client: Any) -> None:
        self.front = front
        self.blobs = front.blobs
        self.client = client
        self.pauses: list[float] = []
        self.ahead = 0
        self.now = 0.0
        front.disks.clear()
        front.snapshots.clear()
        self.blobs.blobs.clear()
        self.blobs.grants.clear()
        self.blobs.counts.clear()
        self.blobs.page_ranges, self.blobs.most_open, self.blobs.bytes_read = 10_000, 0, 0
        front.denied, front.trouble, front.throttled = set(), None, 0
        front.clock = lambda: system_clock() + self.ahead
        self.try_times(5)
        front.make_disk(SUBSCRIPTION, "rg", "data", "westeurope")

    def try_times(self, attempts: int) -> None:
        pace = Pace(
            attempts=attempts,
            budget_s=1e9,
            sleep=self._sleep,
            random=lambda: 1.0,
            monotonic=lambda: self.now,
        )
        self.disks = AzureDisks(self.client, pace, poll_s=0.01, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def arm(self, kind: str, name: str) -> str:
        group = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/rg"
        return f"{group}/providers/microsoft.compute/{kind}/{name}"

    def write(self, content: dict[int, bytes], name: str = "data") -> None:
        """Pages of production's disk; empty for one that is discarded."""
        pages = self.blobs.blobs[self.arm("disks", name)].pages
        for offset, data in content.items():
            for at in range(0, len(data), PAGE):
                pages[(offset + at) // PAGE] = data[at : at + PAGE]

    def discard(self, offset: int, length: int) -> None:
        pages = self.blobs.blobs[self.arm("disks", "data")].pages
        for number in range(offset // PAGE, (offset + length) // PAGE):
            pages.pop(number, None)

    def snapshot(self, name: str) -> None:
        self.ahead += 600
        body = {
            "location": "westeurope", "tags": {},
            "properties": {
                "incremental": True,
                "creationData": {"createOption": "Copy", "sourceResourceId": self.arm("disks", "data")},
            },
        }  # fmt: skip
        self.client.snapshots.begin_create_or_update("rg", name, body, polling=False)

    def source(self, name: str = "s1", size: int = SIZE) -> AzureDiskSource:
        return AzureDiskSource([AzureSnapshot(f"rg/{name}", "rg/data", size, 1_700_000_000)], self.disks)

    def target(self, url: str = URL) -> AzureDiskTarget:
        return AzureDiskTarget(self.disks, AzureDiskAddress.parse(url), "dev/sda")

    def image(self, path: Path, name: str = "disks/new") -> Path:
        """The bytes of a disk without its footer, as a file."""
        blob = self.blobs.blobs[self.arm(*name.split("/"))]
        size = blob.size - PAGE
        sparse(path, size, {n * PAGE: data for n, data in blob.pages.items() if n * PAGE < size})
        return path


@contextlib.contextmanager
def served_clouds() -> Iterator[tuple[AzureSnapshotsFront, Any]]:
    """The fake, and a client of its subscription, until the body ends."""
    with azure_snapshots() as (front, client):
        yield front, client(SUBSCRIPTION)


def image_of(path: Path, content: dict[int, bytes], size: int = SIZE) -> Path:
    sparse(path, size, content)
    return path
