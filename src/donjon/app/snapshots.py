"""The providers' snapshots at the sites of a plan: builds the adapters, with the credentials it names.

A workload has snapshots where it is, and copies of them at the sites of ``copy_to``; each of these places is
counted by itself.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from donjon.core.errors import DonjonError, PointNotFound, Refused, UsageError
from donjon.plan.model import Credential, Plan, Site
from donjon.plan.workloads import AzureDisk, Ebs, GceDisk, Tree, Workload
from donjon.snapshots.base import Snapshot, Snapshots
from donjon.snapshots.expiry import expired, last_good

if TYPE_CHECKING:
    from donjon.snapshots.gce_calls import Clients


@dataclass(frozen=True, slots=True)
class Place:
    """Where snapshots of a workload are. ``site`` is empty for a host that the plan gives no site."""

    site: str
    snapshots: Snapshots


def places(plan: Plan, workload: str) -> list[Place]:
    """Where a workload has snapshots, production first. Raises ``UsageError`` if its kind has none."""
    source, rules = plan.workloads[workload].source, plan.rules(workload)
    found = [Place(rules.site or "", at_site(source, plan, rules.site))]
    copies = rules.snapshots.copy_to if rules.snapshots else ()
    return found + [Place(site, at_site(source, plan, site)) for site in copies]


def has_snapshots(source: Workload) -> bool:
    """Whether snapshots are taken of a workload of this kind, as the plan has it."""
    return isinstance(source, Ebs | AzureDisk | GceDisk) or (
        isinstance(source, Tree) and bool(source.snapshot)
    )


def at_site(source: Workload, plan: Plan, site: str | None) -> Snapshots:
    """The snapshots of a workload at a site. Raises ``UsageError`` for a kind, or a site, without any."""
    if isinstance(source, Ebs):
        return ebs_at(plan, site)
    if isinstance(source, AzureDisk):
        return azure_at(source, plan, site)
    if isinstance(source, GceDisk):
        return gce_at(plan, site)
    if isinstance(source, Tree) and source.snapshot:
        return btrfs_at(source, plan, site)
    msg = f"of workloads of kind {source.kind} no snapshots are taken"
    raise UsageError(msg, hint="The plan says `snapshot: btrfs` of trees that are read from one.")


def volumes_of(source: Workload, snapshots: Snapshots) -> Sequence[str]:
    """The volumes that a workload selects, as the provider names them.

    Raises ``SnapshotFailed`` if one is missing, or nothing is selected.
    """
    from donjon.snapshots.azure_disk import AzureDiskSnapshots
    from donjon.snapshots.ebs import EbsSnapshots
    from donjon.snapshots.gce_disk import GceDiskSnapshots

    if isinstance(source, Ebs) and isinstance(snapshots, EbsSnapshots):
        return snapshots.select(volumes=source.volumes, instances=source.instances, tags=source.tags)
    if isinstance(source, AzureDisk) and isinstance(snapshots, AzureDiskSnapshots):
        return snapshots.select(disks=source.disks, tags=source.tags)
    if isinstance(source, GceDisk) and isinstance(snapshots, GceDiskSnapshots):
        return snapshots.select(zone=source.zone, disks=source.disks, labels=source.labels)
    if isinstance(source, Tree):
        return sorted(set(btrfs_volumes(source).values()))
    raise UsageError(f"of workloads of kind {source.kind} no snapshots are taken")


def ebs_at(plan: Plan, site_name: str | None) -> Snapshots:
    """Snapshots of EBS in the account and region of a site."""
    from donjon.snapshots.ebs import EbsSnapshots, connect

    site = _site(plan, site_name, "aws", "ebs")
    client = connect(site.region, profile=_credential(plan, site).aws_profile)
    return EbsSnapshots(client, account=site.account, region=site.region, copy_key=site.snapshot_key or "")


def azure_at(source: AzureDisk, plan: Plan, site_name: str | None) -> Snapshots:
    """Snapshots of managed disks in the subscription and region of a site, in the disks' resource group."""
    from donjon.snapshots.azure_disk import AzureDiskSnapshots, connect

    site = _site(plan, site_name, "azure", "azure-disk")
    client = connect(site.account, client_id=_credential(plan, site).azure_client)
    return AzureDiskSnapshots(
        client,
        account=site.account,
        region=site.region,
        resource_group=source.resource_group,
        copy_key=site.snapshot_key or "",
    )


def gce_at(plan: Plan, site_name: str | None) -> Snapshots:
    """Snapshots of disks of Compute Engine in the project of a site, kept in its region."""
    from donjon.snapshots.gce_disk import GceDiskSnapshots

    site = _site(plan, site_name, "gcp", "gce-disk")
    return GceDiskSnapshots(gce_clients(plan, site_name), account=site.account, region=site.region)


def gce_clients(plan: Plan, site_name: str | None) -> Clients:
    """Clients of Compute Engine with the credential of a site."""
    from donjon.snapshots.gce_calls import connect

    site = _site(plan, site_name, "gcp", "gce-disk")
    return connect(impersonate=_credential(plan, site).google_account)


def btrfs_at(source: Tree, plan: Plan, site_name: str | None) -> Snapshots:
    """Snapshots of the subvolumes of a workload of this host."""
    from donjon.snapshots.btrfs import BtrfsSnapshots

    site = plan.sites[site_name] if site_name else None
    account, region = (site.account, site.region) if site else (socket.gethostname(), "here")
    volumes = sorted(set(btrfs_volumes(source).values()))
    return BtrfsSnapshots(volumes, account=account, region=region)


def btrfs_volumes(source: Tree) -> dict[str, str]:
    """The subvolume of each path of a workload. Raises ``UsageError`` for one that is not on btrfs."""
    from donjon.snapshots.btrfs import find_volume

    found: dict[str, str] = {}
    for path in source.paths:
        volume = find_volume(os.path.abspath(path))  # noqa: PTH100  (links kept)
        if volume is None:
            msg = f"{path}: is not on btrfs, so there is no snapshot to read it from"
            raise UsageError(msg, hint="Leave `snapshot` out, or move it to a file system of btrfs.")
        found[path] = volume
    return found


def members(place: Place, workload: str, set_ids: Sequence[str]) -> list[Snapshot]:
    """The snapshots of some sets at a place. Raises ``PointNotFound`` for a set that is not there."""
    there = list(place.snapshots.list(workload))
    for set_id in set_ids:
        if not any(one.set_id == set_id for one in there):
            msg = f"{workload}: there is no set {set_id} {_where(place)}"
            raise PointNotFound(msg, hint=f"See `donjon snapshots list {workload}`.")
    return [one for one in there if one.set_id in set_ids]


def deletable(place: Place, workload: str, set_ids: Sequence[str]) -> list[Snapshot]:
    """The same, if they may be deleted.

    Raises ``Refused`` for what is of the last good set, which nothing deletes.
    """
    doomed = members(place, workload, set_ids)
    kept = set(last_good(place.snapshots.list(workload)))
    if held := next((one for one in doomed if one in kept), None):
        msg = f"{workload}: set {held.set_id} is the last good one {_where(place)}"
        raise Refused(msg, hint="Take another one first: donjon snapshots create. The last good one stays.")
    return doomed


def too_many(place: Place, workload: str, *, keep: int, now: int) -> list[Snapshot]:
    """What goes at a place when ``keep`` whole sets stay, oldest first; see ``expiry.expired``."""
    return expired(place.snapshots.list(workload), keep=keep, now=now)


def delete_all(place: Place, doomed: Sequence[Snapshot]) -> tuple[list[Snapshot], list[DonjonError]]:
    """Delete one after the other: what went, and why the rest did not."""
    gone: list[Snapshot] = []
    failures: list[DonjonError] = []
    for one in doomed:
        try:
            place.snapshots.delete(one)
        except DonjonError as error:
            failures.append(error)
        else:
            gone.append(one)
    return gone, failures


def newest(place: Place, workload: str) -> list[Snapshot]:
    """The newest whole set. Raises ``PointNotFound`` if there is none."""
    found = last_good(place.snapshots.list(workload))
    if not found:
        msg = f"{workload}: there is no whole set of snapshots {_where(place)}"
        raise PointNotFound(msg, hint=f"Take one: donjon snapshots create {workload}.")
    return found


def _where(place: Place) -> str:
    return f"in {place.snapshots.account}, {place.snapshots.region}"


def _site(plan: Plan, name: str | None, provider: str, kind: str) -> Site:
    """The site of a workload. Raises ``UsageError`` if there is none, or it is of another provider."""
    if name is None:
        msg = f"a workload of kind {kind} needs a site, which says in which account and region it is"
        raise UsageError(msg, hint="Give it `site`, or give `defaults` one.")
    site = plan.sites[name]
    if site.provider != provider:
        msg = f"site {name!r} is of {site.provider}, and a workload of kind {kind} is of {provider}"
        raise UsageError(msg, hint="Name a site of the same provider.")
    return site


def _credential(plan: Plan, site: Site) -> Credential:
    """The credential for a site: by default what the SDK finds."""
    return plan.credentials[site.credential] if site.credential else Credential()
