"""Snapshots of a workload as copies of it: what the provider lists now."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from donjon.app import snapshots as providers
from donjon.app.status.plan_facts import place_of
from donjon.core.errors import DonjonError
from donjon.plan.copies import Check, Copy, CopyKind, Depth, Key, LockMode, Medium, Place
from donjon.plan.model import Plan
from donjon.snapshots.base import Snapshot
from donjon.snapshots.expiry import last_good

_AWS_KEY = re.compile(r"arn:[a-z-]+:kms:[^:]*:(\d{12}):")
_GCP_KEY = re.compile(r"projects/([^/]+)/")


def snapshot_copies(plan: Plan, workload: str, times: Sequence[int]) -> list[Copy]:
    """The newest whole set at each site that is to have one. ``times`` are those of backups, ascending.

    A set counts as verified if a backup came after it: it was read then.
    """
    rules = plan.rules(workload)
    if rules.snapshots is None or rules.site is None:
        return []
    return [_at(plan, workload, site, times) for site in (rules.site, *rules.snapshots.copy_to)]


def _at(plan: Plan, workload: str, site: str, times: Sequence[int]) -> Copy:
    place = place_of(plan, site)
    bare = Copy(CopyKind.SNAPSHOT, f"at {site}", site, place, Medium.VOLUME)
    try:
        provider = providers.at_site(plan.workloads[workload].source, plan, site)
        members = last_good(provider.list(workload))
    except DonjonError as error:
        return replace(bare, unreachable=error.message, hint=error.hint)
    return _copy(bare, members, times) if members else bare


def _copy(bare: Copy, members: Sequence[Snapshot], times: Sequence[int]) -> Copy:
    first, taken_at = members[0], min(one.created_at for one in members)
    read = next((time for time in times if time >= taken_at), None)
    locked_until = min(one.locked_until for one in members)
    return replace(
        bare,
        place=_place(bare.place, first),
        point=first.set_id,
        point_time=taken_at,
        locked_until=locked_until,
        lock_mode=LockMode.COMPLIANCE if locked_until else LockMode.NONE,
        keys=tuple(sorted({_key(one) for one in members if one.key}, key=lambda key: key.key_id)),
        checked=None
        if read is None
        else Check(read, Depth.DATA, True, "the backup that was read from it", 100),
        facts=(f"{len(members)} snapshots of {first.account}, {first.region}",),
    )


def _place(planned: Place | None, snapshot: Snapshot) -> Place | None:
    """Where the provider says that it is, whatever the plan says."""
    return planned and replace(planned, account=snapshot.account, region=snapshot.region)


def _key(snapshot: Snapshot) -> Key:
    if match := _AWS_KEY.match(snapshot.key):
        return Key(snapshot.key, f"aws:{match[1]}")
    if match := _GCP_KEY.match(snapshot.key):
        return Key(snapshot.key, f"gcp:{match[1]}")
    return Key(snapshot.key, snapshot.key)
