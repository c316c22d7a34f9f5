"""The newest point of a workload in a vault: whether it is whole, and how well it is locked."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from donjon.app.status.vault_facts import VaultLook, keys_of
from donjon.core.errors import DonjonError
from donjon.custody.inventory import Inventory
from donjon.custody.standing import needs
from donjon.format import names
from donjon.plan.copies import Key, LockMode
from donjon.repository.packbits import PackBits
from donjon.repository.points import Point
from donjon.repository.vault import Vault

#: Where a listing does not tell locks, the locks of so many packs are asked for, others each time.
SAMPLE: Final = 64
#: The keys that open so many of the sessions of a point are looked for, the point's own among them.
_SESSIONS: Final = 16


@dataclass(slots=True)
class PointLook:
    """What was seen of a point. ``broken`` and ``tampered`` are as in ``plan.copies.Copy``."""

    broken: str = ""
    tampered: str = ""
    locked_until: int = 0
    mode: LockMode = LockMode.NONE
    keys: tuple[Key, ...] = ()
    facts: tuple[str, ...] = ()


def look_at_point(
    look: VaultLook, point: Point, sample: Callable[[Sequence[str], int], list[str]]
) -> PointLook:
    """Whether every object that a point needs is there, what lies over it, and until when it is locked.

    That all are there is told by the listing of the store. So are the locks, where it tells them; elsewhere
    the locks of ``SAMPLE`` packs are asked for, which ``sample`` chooses, and of all else. Raises what the
    store raises.
    """
    vault, inventory = look.vault, look.inventory
    assert vault is not None  # noqa: S101  (who could not look at a vault has no points of it)
    assert inventory is not None  # noqa: S101
    seen = PointLook(mode=look.mode)
    bits = needs([point])
    sessions = _sessions(point)
    support = [names.VAULT, point.name, *(names.session(*session) for session in sessions)]
    support += [info.name for info in inventory.under(names.KEYRING)]
    packs = _packs(inventory, bits)
    absent = len(bits.without(inventory.packs.there()))
    lost = [name for name in support if name not in inventory.others]
    if absent or lost:
        told = [f"{absent} of {len(bits)} packs are missing"] if absent else []
        seen.broken = "; ".join([*told, *(f"{name} is missing" for name in lost)])
        return seen
    seen.tampered = _tampered(look, inventory, {*support, *packs})
    _locks(seen, vault, inventory, support, packs, sample)
    try:
        seen.keys = keys_of(vault, inventory, sessions[:_SESSIONS])
    except DonjonError as error:
        seen.broken = error.message
    return seen


def any_of(packs: Sequence[str], count: int) -> list[str]:
    """So many of them, others each time."""
    return random.SystemRandom().sample(list(packs), min(count, len(packs)))


def _sessions(point: Point) -> list[tuple[bytes, int]]:
    own = (point.manifest.writer, point.manifest.session)
    return [own, *(place for use in point.manifest.uses if (place := (use.writer, use.session)) != own)]


def _packs(inventory: Inventory, bits: PackBits) -> dict[str, int]:
    """The names of the packs that a point needs and that are there, with their numbers."""
    marks = inventory.packs.marks(bits)
    return {names.pack(digest): number for number, digest in inventory.packs.present() if marks[number]}


def _tampered(look: VaultLook, inventory: Inventory, needed: set[str]) -> str:
    """What somebody did to objects that can still be read."""
    hidden = sorted(inventory.hidden & needed)
    covered = sorted({info.name for info in inventory.covers if info.name in needed} - inventory.hidden)
    told = list(look.alarms)
    if hidden:
        told.append(f"{len(hidden)} objects are hidden by delete markers, such as {hidden[0]}")
    if covered:
        told.append(f"{len(covered)} objects were replaced, such as {covered[0]}; the oldest versions count")
    return "; ".join(told)


def _locks(
    seen: PointLook,
    vault: Vault,
    inventory: Inventory,
    support: list[str],
    packs: dict[str, int],
    sample: Callable[[Sequence[str], int], list[str]],
) -> None:
    """Until when all is locked, and whether by locks that some can lift."""
    if look_closer := not inventory.lists_locks and seen.mode is not LockMode.NONE:
        chosen = sample(sorted(packs), SAMPLE)
        ends = list(_asked(seen, vault, [*support, *chosen]))
    else:
        chosen = list(packs)
        ends = [inventory.locked_until(inventory.others[name]) for name in support]
        ends += [inventory.pack_locked_until(number) for number in packs.values()]
    seen.locked_until = min(ends) if seen.mode is not LockMode.NONE else 0
    how = "asked for" if look_closer else "listed"
    seen.facts = (
        f"{len(packs)} packs, all there",
        f"locks of {len(chosen)} packs and {len(support)} other objects {how}; {seen.mode}",
    )


def _asked(seen: PointLook, vault: Vault, wanted: list[str]) -> Iterator[int]:
    for name in wanted:
        info = vault.store.head(name)
        if info.is_weakly_locked and seen.mode is LockMode.COMPLIANCE:
            seen.mode = LockMode.GOVERNANCE
        yield info.retain_until or 0
