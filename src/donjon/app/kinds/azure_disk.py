"""Managed disks of Azure, read from snapshots that are taken for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from donjon.app.kinds.base import Check, Prepared, Surroundings
from donjon.app.snapshots import azure_at, volumes_of
from donjon.clouds.azure_disk import AzureDisks
from donjon.core.clock import system_clock
from donjon.core.errors import DonjonError
from donjon.core.pace import Pace
from donjon.plan.model import Plan, SnapshotPolicy
from donjon.plan.workloads import AzureDisk
from donjon.snapshots.azure_calls import connect
from donjon.snapshots.base import Snapshot, Snapshots
from donjon.snapshots.marks import new_set_id
from donjon.sources.azure_disk import AzureDiskSource, AzureSnapshot


@contextmanager
def prepare(disk: AzureDisk, surroundings: Surroundings) -> Iterator[Prepared]:
    """The disks, from snapshots taken one after another; the application rests only while they are taken.

    Without rules for snapshots the newest set alone is kept, for the next run compares with it. Raises
    ``SnapshotFailed``, ``PermissionMissing``, and ``UsageError`` for a site that is not of Azure.
    """
    rules = surroundings.rules.snapshots
    provider = azure_at(disk, surroundings.plan, surroundings.rules.site)
    volumes = volumes_of(disk, provider)
    set_id = new_set_id(system_clock(), os.urandom(4))
    with surroundings.quiesce():
        taken = provider.create(volumes, workload=surroundings.workload, set_id=set_id)
    try:
        whole = provider.wait(taken, timeout_s=(rules or SnapshotPolicy()).wait)
        readable = [_readable(one) for one in whole]
        paths = tuple(b"/" + one.disk_name.encode() for one in readable)
        disks = _disks(surroundings, provider)
        yield Prepared(AzureDiskSource(readable, disks), paths, whole, provider)
    except BaseException:
        if rules is None:  # the newest point was made from the set before this one
            _delete(provider, surroundings, lambda one: one.set_id == set_id)
        raise
    if rules is None:
        _delete(provider, surroundings, lambda one: one.set_id != set_id)


def _disks(surroundings: Surroundings, provider: Snapshots) -> AzureDisks:
    client = connect(provider.account, client_id=surroundings.credential.azure_client)
    return AzureDisks(client, Pace(surroundings.limits.requests))


def _readable(snapshot: Snapshot) -> AzureSnapshot:
    return AzureSnapshot(
        snapshot.snapshot_id, snapshot.volume_id, snapshot.size_bytes, snapshot.created_at
    )  # fmt: skip


def _delete(provider: Snapshots, surroundings: Surroundings, is_doomed: Callable[[Snapshot], bool]) -> None:
    """Delete snapshots of the workload. One that stays keeps no backup from being made."""
    try:
        for one in list(provider.list(surroundings.workload)):
            if is_doomed(one):
                provider.delete(one)
    except DonjonError as error:
        surroundings.progress.note(error.message)


def check_online(disk: AzureDisk, plan: Plan, workload: str) -> Iterator[Check]:
    """Whether the disks are there; that their snapshots can be read is seen only by a backup."""
    try:
        found = volumes_of(disk, azure_at(disk, plan, plan.rules(workload).site))
    except DonjonError as error:
        yield Check(error.message, False, error.hint)
        return
    for volume in found:
        yield Check(f"{volume}: is there", True)
