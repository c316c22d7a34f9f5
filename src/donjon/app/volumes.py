"""Volumes by their addresses: what is read, and where one can be restored to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from donjon.core.errors import UsageError
from donjon.targets.image import ImageTarget
from donjon.targets.volume import VolumeTarget

if TYPE_CHECKING:
    from donjon.sources.base import Source

#: How Azure names it: https://learn.microsoft.com/rest/api/compute/snapshots/get
_AZURE_SNAPSHOT: Final = re.compile(
    r"/subscriptions/(?P<subscription>[0-9a-f-]{36})/resourceGroups/(?P<group>[^/]{1,90})"
    r"/providers/Microsoft\.Compute/snapshots/(?P<name>[A-Za-z0-9_.-]{1,80})",
    re.IGNORECASE,
)


@contextmanager
def volume_target(
    device: Path | None, url: str | None, *, overwrite: bool, name: bytes
) -> Iterator[VolumeTarget]:
    """The target at the path of a device or image file, or at a URL; ``name`` is the path in the point.

    Closes it at the end. Raises ``UsageError`` for a URL that means nothing.
    """
    if device is not None:
        target: VolumeTarget = ImageTarget(str(device), overwrite=overwrite)
    elif (url or "").startswith("ebs:"):
        target = _ebs_target(url or "", os.fsdecode(name))
    elif (url or "").startswith("azure-disk:"):
        target = _azure_target(url or "", os.fsdecode(name))
    else:
        msg = f"{url}: no disk can be restored there"
        raise UsageError(msg, hint="Write ebs://… or azure-disk://…, or use --to-device PATH.")
    try:
        yield target
    finally:
        target.close()


def _ebs_target(url: str, name: str) -> VolumeTarget:
    from donjon.clouds import aws, ebs
    from donjon.targets.ebs import EbsAddress, EbsTarget

    address = EbsAddress.parse(url)
    direct = ebs.open_direct(region=address.region, profile=address.profile)
    ec2 = aws.client("ec2", "EBS", region=address.region, profile=address.profile)
    return EbsTarget(direct, ec2, address, name)


def _azure_target(url: str, name: str) -> VolumeTarget:
    from donjon.clouds.azure_disk import AzureDisks
    from donjon.snapshots.azure_calls import connect
    from donjon.targets.azure_disk import AzureDiskAddress, AzureDiskTarget

    address = AzureDiskAddress.parse(url)
    return AzureDiskTarget(AzureDisks(connect(address.subscription)), address, name)


def azure_source(snapshots: Sequence[str]) -> tuple[tuple[bytes, ...], Source]:
    """What a point of snapshots of Azure's disks says it is of, and the source. ``snapshots`` are their ids.

    Raises ``UsageError`` for what is no id, for several subscriptions, and for two of disks of one name.
    """
    from donjon.clouds.azure_disk import AzureDisks, Place
    from donjon.snapshots.azure_calls import connect
    from donjon.sources.azure_disk import AzureDiskSource, find_snapshots

    parts = [_azure_parts(one) for one in snapshots]
    subscriptions = {subscription.lower() for subscription, _, _ in parts}
    if len(subscriptions) > 1:
        msg = "the snapshots are of several subscriptions"
        raise UsageError(msg, hint="Back up those of each by itself.")
    disks = AzureDisks(connect(parts[0][0]))
    found = find_snapshots(disks, [Place(group, name, is_disk=False) for _, group, name in parts])
    if len({snapshot.disk_name.lower() for snapshot in found}) != len(found):
        msg = "two of the snapshots are of one disk, or of disks of one name"
        raise UsageError(msg, hint="Back them up one after the other.")
    paths = tuple(b"/" + snapshot.disk_name.encode() for snapshot in found)
    return paths, AzureDiskSource(found, disks)


def _azure_parts(snapshot: str) -> tuple[str, str, str]:
    """Subscription, resource group and name of the id of a snapshot."""
    found = _AZURE_SNAPSHOT.fullmatch(snapshot)
    if found is None:
        msg = f"{snapshot}: is no id of a snapshot of Azure"
        hint = (
            "Write /subscriptions/…/resourceGroups/GROUP/providers/Microsoft.Compute/snapshots/NAME; "
            "`az snapshot show --resource-group GROUP --name NAME --query id` tells it."
        )
        raise UsageError(msg, hint=hint)
    return found["subscription"], found["group"], found["name"]


def ebs_source(snapshots: Sequence[str]) -> tuple[tuple[bytes, ...], Source]:
    """What a point of snapshots of EBS says it is of, and the source. Region and credential are the SDK's."""
    from donjon.clouds import aws, ebs
    from donjon.sources.ebs import EbsSource, find_snapshots

    direct = ebs.open_direct(region=None)
    found = find_snapshots(aws.client("ec2", "EBS", region=None), snapshots)
    if len({snapshot.volume_id for snapshot in found}) != len(found):
        msg = "two of the snapshots are of one volume"
        raise UsageError(msg, hint="Back them up one after the other.")
    return tuple(b"/" + snapshot.volume_id.encode() for snapshot in found), EbsSource(found, direct)
