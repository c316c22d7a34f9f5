"""Files and folders of this host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from donjon.app.kinds.base import Check, Prepared, Surroundings
from donjon.app.snapshots import btrfs_at, btrfs_volumes
from donjon.core.clock import system_clock
from donjon.core.errors import DonjonError
from donjon.plan.model import Plan
from donjon.plan.workloads import Tree
from donjon.snapshots.base import Snapshot, Snapshots
from donjon.snapshots.btrfs import FOLDER, find_volume
from donjon.snapshots.marks import new_set_id
from donjon.sources.selection import Selection
from donjon.sources.tree import TreeSource


@contextmanager
def prepare(tree: Tree, surroundings: Surroundings) -> Iterator[Prepared]:
    """The tree, at rest while it is read or while its snapshot is taken.

    Raises ``UsageError`` for paths that are not on btrfs if it is to be read from a snapshot.
    """
    paths = tuple(os.path.abspath(os.fsencode(path)) for path in tree.paths)  # noqa: PTH100  (links kept)
    if tree.snapshot is None:
        with surroundings.quiesce():
            yield Prepared(TreeSource(paths, _selection(tree, surroundings.own_folders)), paths)
        return
    provider = btrfs_at(tree, surroundings.plan, surroundings.rules.site)
    volumes = sorted(set(btrfs_volumes(tree).values()))
    keeps = surroundings.rules.snapshots is not None
    if not keeps:
        _delete_all(provider, surroundings)  # what a run that was killed left behind
    with surroundings.quiesce():
        set_id = new_set_id(system_clock(), os.urandom(4))
        taken = provider.create(volumes, workload=surroundings.workload, set_id=set_id)
    try:
        yield _prepared(tree, paths, taken, provider, surroundings)
    finally:
        if not keeps:
            _delete_all(provider, surroundings)


def _prepared(
    tree: Tree,
    paths: tuple[bytes, ...],
    taken: list[Snapshot],
    provider: Snapshots,
    surroundings: Surroundings,
) -> Prepared:
    """The tree as it is in snapshots, with the paths that it has in their subvolumes."""
    # What no backup takes up has the same inodes in a snapshot, on the device of the snapshot.
    never = set(surroundings.own_folders)
    for one in taken:
        live, there = Path(one.volume_id).stat().st_dev, Path(one.snapshot_id)
        device = there.stat().st_dev
        never.add((device, (there / FOLDER).stat().st_ino))
        never |= {(device, inode) for owner, inode in surroundings.own_folders if owner == live}
    moved = {os.fsencode(one.volume_id): os.fsencode(one.snapshot_id) for one in taken}
    selection = _selection(tree, frozenset(never))
    return Prepared(TreeSource(paths, selection, moved=moved), paths, taken, provider)


def _selection(tree: Tree, never: frozenset[tuple[int, int]]) -> Selection:
    return Selection(
        excludes=tree.exclude,
        caches=tree.exclude_caches,
        one_file_system=tree.one_file_system,
        never=never,
    )


def _delete_all(provider: Snapshots, surroundings: Surroundings) -> None:
    """Delete the snapshots of a workload that keeps none. One that stays keeps no backup from being made."""
    try:
        for one in list(provider.list(surroundings.workload)):
            provider.delete(one)
    except DonjonError as error:
        surroundings.progress.note(error.message)


def check_online(tree: Tree, plan: Plan, workload: str) -> Iterator[Check]:
    """Whether the paths are there and can be read; what is below them is seen only by a backup."""
    del plan, workload
    for path in tree.paths:
        if not os.path.lexists(path):
            yield Check(f"{path}: is not there", False, "Correct the path, or mount what it is on.")
        elif not os.access(path, os.R_OK):
            yield Check(
                f"{path}: cannot be read by this user", False, "Run Donjon as a user who may read it."
            )
        elif tree.snapshot and find_volume(path) is None:
            hint = "Leave `snapshot` out, or move it to a file system of btrfs."
            yield Check(f"{path}: is not on btrfs, so there is no snapshot to read it from", False, hint)
        else:
            yield Check(f"{path}: is there", True)
