"""How each point stands: whether it is to stay, is still locked, or is gone. Pure.

See ``docs/locks.md``, "Which points are live".
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from donjon.custody.inventory import Inventory
from donjon.format.manifest import Use
from donjon.plan.retention import Candidate, Policy, decide
from donjon.repository.keyring import Keyring
from donjon.repository.packbits import PackBits
from donjon.repository.points import Point


@dataclass(frozen=True, slots=True)
class Standing:
    """One point, and on what account it stays: ``reasons`` is empty if nothing wants it any more.

    ``locked_until`` is the end of its manifest's lock in Unix seconds by the store's clock, as far as that
    is known. ``is_held``: that lock may still hold. ``is_expired``: it does not, and packs of it are gone.
    ``is_deleted``: approvers gave it up. ``is_spared``: what is left of it must not be deleted.
    """

    point: Point
    reasons: tuple[str, ...]
    locked_until: int
    is_held: bool
    is_expired: bool
    is_deleted: bool
    is_spared: bool

    @property
    def is_live(self) -> bool:
        """Whether custody keeps it."""
        return bool(self.reasons)


def find_standings(
    points: Sequence[Point],
    inventory: Inventory,
    keyring: Keyring,
    policy: Policy,
    *,
    deleted: Container[bytes] = (),
    suspect: Collection[bytes] = (),
    workloads: Mapping[bytes, str] = MappingProxyType({}),
) -> list[Standing]:
    """How all points stand, oldest first.

    ``deleted`` are the ids of points that approvers gave up, ``suspect`` of those that stay but take no place
    of a clean one, as after an attack they may be the newest of every day. ``workloads`` tells the workload
    of each point id that a key at hand opens; the others are counted for their writer alone.
    """
    absent = needs(points).without(inventory.packs.there())
    ends = {point.point_id: _locked_until(point, inventory) for point in points}
    expired = {
        point.point_id: "its data is gone"
        for point in points
        if not ends[point.point_id][1] and any(map(absent.meets, point.manifest.uses))
    }
    late = {
        point.point_id: f"it came after {reason}"
        for point in points
        if (reason := keyring.came_late(point.manifest, point.time, point.name, point.point_id))
    }

    def reasons(uncounted: Mapping[bytes, str]) -> dict[bytes, tuple[str, ...]]:
        candidates = (_candidate(point, workloads, uncounted) for point in points)
        decisions = decide(policy, candidates, inventory.now)
        return {decision.candidate.point_id: decision.reasons for decision in decisions}

    marked = dict.fromkeys(suspect, "it is suspect")
    live = reasons(marked | late | expired)
    # A store, or a thief, could make a point look expired to have the rest of it deleted.
    wanted = reasons(marked | late)
    standings = []
    for point in points:
        name = point.point_id
        end, is_held = ends[name]
        is_deleted, is_expired = name in deleted, name in expired
        why = () if is_deleted or is_expired else live[name]
        is_spared = is_held or bool(why) or (bool(wanted[name]) and not is_deleted)
        standings.append(Standing(point, why, end, is_held, is_expired, is_deleted, is_spared))
    return standings


def _candidate(point: Point, workloads: Mapping[bytes, str], uncounted: Mapping[bytes, str]) -> Candidate:
    manifest, name = point.manifest, point.point_id
    return Candidate(
        name, manifest.writer, manifest.sequence, point.time, workloads.get(name), uncounted.get(name, "")
    )


def needs(points: Iterable[Point]) -> PackBits:
    """All packs that these points need."""
    return PackBits(distinct_uses(points))


def distinct_uses(points: Iterable[Point]) -> set[Use]:
    """The uses of these points, each once: points after each other mostly need the same."""
    found: set[Use] = set()
    for point in points:
        found.update(point.manifest.uses)
    return found


def _locked_until(point: Point, inventory: Inventory) -> tuple[int, bool]:
    """The end of a manifest's lock, and whether it may still hold."""
    info = inventory.others.get(point.name)
    if info is None:  # it came after the listing
        return point.manifest.protected_until, True
    end = inventory.locked_until(info)
    return end, inventory.may_be_locked(info.stored_at, end)
