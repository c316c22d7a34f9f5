"""Which snapshots may go, and which never do: pure.

Everything is judged for one account and region, so that copies elsewhere are counted by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from donjon.snapshots.base import Snapshot, SnapshotState


def sets(snapshots: Iterable[Snapshot]) -> list[list[Snapshot]]:
    """The snapshots by workload and set: workloads by name, and of each the newest set first."""
    by_set = sorted(snapshots, key=lambda one: (one.workload, one.set_id, one.created_at, one.snapshot_id))
    found = [list(members) for _, members in groupby(by_set, lambda one: (one.workload, one.set_id))]
    found.sort(key=_age, reverse=True)
    return sorted(found, key=lambda members: members[0].workload)


def is_whole(members: Sequence[Snapshot]) -> bool:
    """Whether a set is good: of each of its volumes there is a complete snapshot."""
    complete = {one.volume_id for one in members if one.state is SnapshotState.COMPLETE}
    return len(complete) >= max(one.set_size for one in members)


def last_good(snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    """The members of the newest whole set of each workload: what is never deleted."""
    found: dict[str, list[Snapshot]] = {}
    for members in sets(snapshots):
        if is_whole(members):
            found.setdefault(members[0].workload, members)
    return [one for members in found.values() for one in members]


def expired(snapshots: Iterable[Snapshot], *, keep: int, now: int) -> list[Snapshot]:
    """What goes when ``keep`` whole sets of each workload stay, oldest first. ``now`` is in Unix seconds.

    The newest whole set always stays, and so does everything that is newer than it, for it may still be in
    the making. Locked snapshots stay until their lock has ended.
    """
    going: list[Snapshot] = []
    for _, group in groupby(sets(snapshots), lambda members: members[0].workload):
        whole = 0
        for members in group:
            if whole >= max(1, keep):
                going += [one for one in members if one.locked_until <= now]
            whole += is_whole(members)
    return sorted(going, key=lambda one: (one.created_at, one.snapshot_id))


def _age(members: Sequence[Snapshot]) -> tuple[int, str]:
    return max(one.created_at for one in members), members[0].set_id
