"""What may be deleted: whole packs that nothing needs and no lock holds, and what belonged to them. Pure.

See ``docs/locks.md``, "Reaping". Signed history (manifests, sessions, seals, keyring, epochs) stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from donjon.custody.inventory import IndexPart, Inventory
from donjon.custody.standing import Standing, needs
from donjon.format import names
from donjon.repository.packbits import PackBits
from donjon.repository.points import Point
from donjon.stores.base import ObjectInfo

PACK = "pack"
INDEX = "index"
COVER = "cover"

_OURS = (
    names.VAULT,
    names.KEYRING,
    names.SESSIONS,
    names.SEALS,
    names.PACKS,
    names.INDEX,
    names.MANIFESTS,
    names.CHECKPOINTS,
    names.EPOCHS,
    names.CERTIFICATES,
    names.EVIDENCE,
    names.APPROVALS,
    names.SUCCESSIONS,
)
_NO_MANIFEST = bytes(32)


@dataclass(frozen=True, slots=True)
class Doomed:
    """One version of an object that may go. ``why`` is PACK, INDEX or COVER."""

    name: str
    version: str | None
    size_bytes: int
    why: str


@dataclass(slots=True)
class Reaping:
    """What may go, and what is kept. Sizes are in bytes.

    ``needed`` are the packs of points that are spared. ``unsettled`` are writers whose
    manifests are damaged or have gaps: nothing of theirs goes. ``waiting_bytes`` is what goes once its
    locks have ended.
    """

    doomed: list[Doomed] = field(default_factory=list)
    needed: PackBits = field(default_factory=PackBits)
    unsettled: set[bytes] = field(default_factory=set)
    waiting: int = 0
    waiting_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        """What all of it takes."""
        return sum(item.size_bytes for item in self.doomed)


def plan_reaping(inventory: Inventory, standings: Sequence[Standing]) -> Reaping:
    """What may be deleted now. Nothing ever, in a vault without locks."""
    plan = Reaping()
    points = [standing.point for standing in standings]
    plan.needed = needs(standing.point for standing in standings if standing.is_spared)
    live = needs(standing.point for standing in standings if standing.is_live)
    plan.unsettled = unsettled_writers(points, inventory)
    if inventory.lock_s:
        plan.doomed += _packs(inventory, plan, live)
        plan.doomed += _index(inventory, plan)
        plan.doomed += _covers(inventory)
    return plan


def unsettled_writers(points: Sequence[Point], inventory: Inventory) -> set[bytes]:
    """Writers whose manifests do not make an unbroken chain: what they need is not known for sure."""
    chains: dict[bytes, dict[int, Point]] = {}
    for point in points:
        chains.setdefault(point.manifest.writer, {})[point.manifest.sequence] = point
    read = {point.name for point in points}
    unsettled = {
        writer
        for info in inventory.under(names.MANIFESTS)
        if info.name not in read and (writer := _writer_of(info.name)) is not None
    }
    for writer, chain in chains.items():
        before = _NO_MANIFEST
        for sequence in range(1, max(chain) + 1):
            if sequence not in chain or chain[sequence].manifest.previous != before:
                unsettled.add(writer)
                break
            before = chain[sequence].point_id
    return unsettled


def _packs(inventory: Inventory, plan: Reaping, live: PackBits) -> Iterator[Doomed]:
    packs = inventory.packs
    is_live, is_needed = packs.marks(live), packs.marks(plan.needed)
    for number, digest in packs.present():
        if is_live[number] or (
            plan.unsettled and any(key[0] in plan.unsettled for key in packs.keys(number))
        ):
            continue
        size_bytes = packs.size_bytes(number)
        is_locked = inventory.may_be_locked(packs.stored_at(number), inventory.pack_locked_until(number))
        if is_locked or is_needed[number]:
            plan.waiting += 1
            plan.waiting_bytes += size_bytes
        else:
            yield Doomed(names.pack(digest), packs.version(number), size_bytes, PACK)


def _index(inventory: Inventory, plan: Reaping) -> Iterator[Doomed]:
    """Index objects that list only packs which are gone."""
    for part in inventory.index:
        info = part.info
        if _writer_of(info.name) in plan.unsettled or _lists_any(part, inventory):
            continue
        if not inventory.may_be_locked(info.stored_at, inventory.locked_until(info)):
            yield Doomed(info.name, info.version, info.size_bytes, INDEX)


def _lists_any(part: IndexPart, inventory: Inventory) -> bool:
    return any(inventory.packs.is_there(number) for number in part.packs)


def _covers(inventory: Inventory) -> Iterator[Doomed]:
    """Delete markers, and versions that were laid over an object, once no lock holds them."""
    for info in inventory.covers:
        if info.name.startswith(_OURS) and not _is_held(info, inventory):
            yield Doomed(info.name, info.version, info.size_bytes, COVER)


def _is_held(info: ObjectInfo, inventory: Inventory) -> bool:
    return not info.delete_marker and inventory.may_be_locked(info.stored_at, info.retain_until or 0)


def _writer_of(name: str) -> bytes | None:
    """The writer in the name of a manifest or an index object, None if there is none."""
    try:
        return bytes.fromhex(name.split("/")[1])
    except (IndexError, ValueError):
        return None
