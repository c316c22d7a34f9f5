"""Volumes of EBS, read from snapshots that are taken for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from donjon.app.kinds.base import Check, Prepared, Surroundings
from donjon.app.snapshots import ebs_at, volumes_of
from donjon.clouds.ebs import REQUESTS_PER_S, EbsDirect, Pacing, open_direct
from donjon.core.clock import system_clock
from donjon.core.errors import DonjonError
from donjon.plan.model import Plan, SnapshotPolicy
from donjon.plan.workloads import Ebs
from donjon.snapshots.base import Snapshot, Snapshots
from donjon.snapshots.marks import new_set_id
from donjon.sources.ebs import EbsSnapshot, EbsSource


@contextmanager
def prepare(ebs: Ebs, surroundings: Surroundings) -> Iterator[Prepared]:
    """The volumes, from snapshots of one moment; the application rests only while they are taken.

    Without rules for snapshots the newest set alone is kept, for the next run compares with it. Raises
    ``SnapshotFailed``, ``PermissionMissing``, and ``UsageError`` for a site that is not of AWS.
    """
    rules = surroundings.rules.snapshots
    provider = ebs_at(surroundings.plan, surroundings.rules.site)
    volumes = volumes_of(ebs, provider)
    set_id = new_set_id(system_clock(), os.urandom(4))
    with surroundings.quiesce():
        taken = provider.create(volumes, workload=surroundings.workload, set_id=set_id)
    try:
        whole = provider.wait(taken, timeout_s=(rules or SnapshotPolicy()).wait)
        paths = tuple(b"/" + one.volume_id.encode() for one in whole)
        direct = _direct(surroundings, provider)
        yield Prepared(EbsSource([_readable(one) for one in whole], direct), paths, whole, provider)
    except BaseException:
        if rules is None:  # the newest point was made from the set before this one
            _delete(provider, surroundings, lambda one: one.set_id == set_id)
        raise
    if rules is None:
        _delete(provider, surroundings, lambda one: one.set_id != set_id)


def _direct(surroundings: Surroundings, provider: Snapshots) -> EbsDirect:
    limit = surroundings.limits.requests or REQUESTS_PER_S
    profile = surroundings.credential.aws_profile
    return open_direct(region=provider.region, profile=profile, pacing=Pacing(requests_per_s=limit))


def _readable(snapshot: Snapshot) -> EbsSnapshot:
    return EbsSnapshot(snapshot.snapshot_id, snapshot.volume_id, snapshot.size_bytes, snapshot.created_at)


def _delete(provider: Snapshots, surroundings: Surroundings, is_doomed: Callable[[Snapshot], bool]) -> None:
    """Delete snapshots of the workload. One that stays keeps no backup from being made."""
    try:
        for one in list(provider.list(surroundings.workload)):
            if is_doomed(one):
                provider.delete(one)
    except DonjonError as error:
        surroundings.progress.note(error.message)


def check_online(ebs: Ebs, plan: Plan, workload: str) -> Iterator[Check]:
    """Whether the volumes are there; that their snapshots can be read is seen only by a backup."""
    try:
        found = volumes_of(ebs, ebs_at(plan, plan.rules(workload).site))
    except DonjonError as error:
        yield Check(error.message, False, error.hint)
        return
    for volume in found:
        yield Check(f"{volume}: is there", True)
