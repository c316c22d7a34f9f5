"""Disks of Compute Engine, read from snapshots through disks that this machine has for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from donjon.app.kinds.base import Check, Prepared, Surroundings
from donjon.app.snapshots import gce_at, gce_clients, volumes_of
from donjon.core.clock import system_clock
from donjon.core.errors import DonjonError
from donjon.plan.model import Plan, SnapshotPolicy
from donjon.plan.workloads import GceDisk
from donjon.snapshots.base import Snapshot, Snapshots
from donjon.snapshots.gce_attach import Attachments, this_machine
from donjon.snapshots.marks import new_set_id
from donjon.sources.attached import AttachedSource


@contextmanager
def prepare(disk: GceDisk, surroundings: Surroundings) -> Iterator[Prepared]:
    """The disks as block devices, from snapshots that were taken at rest.

    Raises ``UsageError`` if this is no machine of Compute Engine, and what snapshots raise.
    """
    site = surroundings.rules.site
    provider = gce_at(surroundings.plan, site)
    attachments = Attachments(gce_clients(surroundings.plan, site), this_machine(os.environ))
    with reading(disk, surroundings, provider, attachments) as prepared:
        yield prepared


@contextmanager
def reading(
    disk: GceDisk, surroundings: Surroundings, provider: Snapshots, attachments: Attachments
) -> Iterator[Prepared]:
    """The same, with what asks Google."""
    volumes = volumes_of(disk, provider)
    with surroundings.quiesce():
        set_id = new_set_id(system_clock(), os.urandom(4))
        taken = provider.create(volumes, workload=surroundings.workload, set_id=set_id)
    policy = surroundings.rules.snapshots
    try:
        done = provider.wait(taken, timeout_s=(policy or SnapshotPolicy()).wait)
        with attachments.attached(done, surroundings.workload) as devices:
            shown = [b"/" + one.volume_id.encode() for one in done]
            by_path = dict(zip(shown, (os.fsencode(device) for device in devices), strict=True))
            yield Prepared(AttachedSource(by_path), tuple(shown), done, provider)
    finally:
        if policy is None:
            _delete_all(provider, taken, surroundings)


def _delete_all(provider: Snapshots, taken: list[Snapshot], surroundings: Surroundings) -> None:
    """Delete the snapshots of a workload that keeps none."""
    for one in taken:
        try:
            provider.delete(one)
        except DonjonError as error:
            surroundings.progress.note(error.message)


def check_online(disk: GceDisk, plan: Plan, workload: str) -> Iterator[Check]:
    """Whether this is a machine of Compute Engine, and the disks are there; reading is seen by a backup."""
    try:
        machine = this_machine(os.environ)
        yield Check(f"{machine.project}/{machine.zone}/{machine.name}: reads the disks", True)
        for volume in volumes_of(disk, gce_at(plan, plan.rules(workload).site)):
            yield Check(f"{volume}: is there", True)
    except DonjonError as error:
        yield Check(error.message, False, error.hint)
