"""What custody has to lock anew, what that takes, and what is at risk. Pure.

See ``docs/locks.md``, "Extending".
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field

from donjon.core.clock import SECONDS_PER_DAY, iso
from donjon.core.errors import UsageError
from donjon.custody.inventory import Inventory
from donjon.custody.standing import Standing, needs
from donjon.format import names
from donjon.format.manifest import PackKey, Use
from donjon.repository.packbits import PackBits
from donjon.stores.base import ObjectInfo

_EPOCHS_A_LOCK = 5
#: A vault can lose millions of packs; what is told of them has an end.
_MOST_RISKS = 100


@dataclass(frozen=True, slots=True)
class Risk:
    """Something that live points need and that is missing, hidden, or not locked any more."""

    kind: str
    object: str
    what: str
    points: tuple[str, ...] = ()


@dataclass(slots=True)
class Extension:
    """What is due. ``until`` is the new end of the locks; what ends before ``due_before`` is due.

    ``support`` are objects that packs and points hang on, in the order in which to lock them; ``packs`` are
    numbers of the inventory's packs. ``debt`` counts the live points that are protected for less than
    promised, ``live`` all live points. Times are in Unix seconds by the store's clock, sizes in bytes.
    """

    until: int
    due_before: int
    support: list[ObjectInfo] = field(default_factory=list)
    packs: list[int] = field(default_factory=list)
    manifests: list[Standing] = field(default_factory=list)
    absent: PackBits = field(default_factory=PackBits)
    absent_sessions: set[tuple[bytes, int]] = field(default_factory=set)
    live: int = 0
    live_packs: int = 0
    live_bytes: int = 0
    debt: int = 0
    risks: list[Risk] = field(default_factory=list)
    risk_count: int = 0

    @property
    def requests(self) -> int:
        """How many objects are to be locked anew, each with one request."""
        return len(self.support) + len(self.packs) + len(self.manifests)


@dataclass(frozen=True, slots=True)
class Due:
    """One object to lock anew; ``pack`` is its number if it is a pack."""

    name: str
    version: str | None
    pack: int | None = None


def due_objects(inventory: Inventory, plan: Extension) -> Iterator[Due]:
    """What is to be locked before any manifest is: what points hang on, then packs."""
    for info in plan.support:
        yield Due(info.name, info.version)
    packs = inventory.packs
    is_due = bytearray(len(packs))
    for number in plan.packs:
        is_due[number] = 1
    for number, digest in packs.present():
        if is_due[number]:
            yield Due(names.pack(digest), packs.version(number), number)


def default_epoch_s(lock_s: int) -> int:
    """A fifth of the lock, and at least a day."""
    return max(lock_s // _EPOCHS_A_LOCK, SECONDS_PER_DAY)


def check_epoch(epoch_s: int, lock_s: int) -> None:
    """Raises ``UsageError`` for an epoch that is shorter than a day or that leaves no lock."""
    if not SECONDS_PER_DAY <= epoch_s <= lock_s // 2:
        msg = f"an epoch of {epoch_s} s does not fit a lock of {lock_s} s"
        raise UsageError(msg, hint="Use at least 1d, and at most half of the lock.")


def plan_extension(
    inventory: Inventory, standings: Sequence[Standing], epoch_s: int, certificates: Container[str] = ()
) -> Extension:
    """What is due for live points: whatever has less than lock minus epoch left.

    ``certificates`` are the names of those that count: without them a point that was given up would be live.
    """
    return _Planner(inventory, standings, epoch_s, certificates).plan()


class _Planner:
    def __init__(
        self,
        inventory: Inventory,
        standings: Sequence[Standing],
        epoch_s: int,
        certificates: Container[str],
    ) -> None:
        now, lock_s = inventory.now, inventory.lock_s
        self._inventory = inventory
        self._certificates = certificates
        self._live = [standing for standing in standings if standing.is_live]
        self._points = [standing.point for standing in self._live]
        until = -(-(now + lock_s) // SECONDS_PER_DAY) * SECONDS_PER_DAY
        self._plan = Extension(until, now + lock_s - epoch_s, live=len(self._live))
        self._due = PackBits()
        self._due_sessions: set[tuple[bytes, int]] = set()

    def plan(self) -> Extension:
        plan = self._plan
        needed = needs(self._points)
        sessions = {(key[0], key[1]) for key in needed.sessions}
        sessions |= {(point.manifest.writer, point.manifest.session) for point in self._points}
        plan.absent = needed.without(self._inventory.packs.there())
        self._support(needed, sessions)
        self._packs(needed)
        plan.manifests = [s for s in self._live if self._is_due(s.locked_until)]
        self._missing(sessions)
        self._hidden_manifests()
        plan.debt = sum(self._in_debt(standing) for standing in self._live)
        return plan

    def _is_due(self, end: int) -> bool:
        return end < self._plan.due_before

    # -- what points hang on -----------------------------------------------------------------------

    def _support(self, needed: PackBits, sessions: set[tuple[bytes, int]]) -> None:
        for info in self._fixed():
            self._add_support(info)
        for place in sorted(sessions):
            session = self._inventory.others.get(names.session(*place))
            if session is not None and self._add_support(session):
                self._due_sessions.add(place)
        endings = {f"/{writer.hex()}/{number:08d}" for writer, number in sessions}
        for info in self._inventory.under(names.SEALS):
            if info.name[-_SEAL_END:] in endings:
                self._add_support(info)
        for part in self._inventory.index:
            keys = self._inventory.packs.keys
            if any(key in needed for number in part.packs for key in keys(number)):
                self._add_support(part.info)

    def _fixed(self) -> Iterator[ObjectInfo]:
        """What all points hang on: vault object, keyring, successions, newest checkpoint, certificates."""
        others = self._inventory.others
        if (vault := others.get(names.VAULT)) is not None:
            yield vault
        yield from self._inventory.under(names.KEYRING)
        yield from self._inventory.under(names.SUCCESSIONS)
        yield from sorted(self._inventory.under(names.CHECKPOINTS), key=lambda info: info.name)[-1:]
        for info in self._inventory.under(names.CERTIFICATES):
            if info.name in self._certificates:
                yield info

    def _add_support(self, info: ObjectInfo) -> bool:
        """Whether the object is due."""
        end = self._inventory.locked_until(info)
        self._look_at(info.name, info.stored_at, end, ())
        if self._is_due(end):
            self._plan.support.append(info)
            return True
        return False

    # -- packs -------------------------------------------------------------------------------------

    def _packs(self, needed: PackBits) -> None:
        inventory, plan, packs = self._inventory, self._plan, self._inventory.packs
        is_needed = packs.marks(needed)
        hidden = {name for name in inventory.hidden if name.startswith(names.PACKS)}
        for number, digest in packs.present():
            if not is_needed[number]:
                continue
            plan.live_packs += 1
            plan.live_bytes += packs.size_bytes(number)
            end = inventory.pack_locked_until(number)
            if hidden or not inventory.may_be_locked(packs.stored_at(number), end):
                self._look_at(names.pack(digest), packs.stored_at(number), end, packs.keys(number))
            if self._is_due(end):
                plan.packs.append(number)
                for key in packs.keys(number):
                    self._due.add(key)

    # -- risks -------------------------------------------------------------------------------------

    def _look_at(self, name: str, stored_at: int, end: int, keys: Sequence[PackKey]) -> None:
        if name in self._inventory.hidden:
            self._risk("hidden", name, "a delete marker is on top; the data below is kept", keys)
        if not self._inventory.may_be_locked(stored_at, end):
            self._risk("ended", name, f"its lock ended at {iso(end)}" if end else "is not locked", keys)

    def _risk(self, kind: str, name: str, what: str, keys: Sequence[PackKey]) -> None:
        plan = self._plan
        plan.risk_count += 1
        if len(plan.risks) < _MOST_RISKS:
            affected = (p.point_id.hex() for p in self._points if any(key in p.uses for key in keys))
            plan.risks.append(Risk(kind, name, what, tuple(affected)))

    def _missing(self, sessions: set[tuple[bytes, int]]) -> None:
        plan = self._plan
        for key in plan.absent:
            self._risk("missing", f"pack {key[2]} of {names.session(key[0], key[1])}", "is missing", (key,))
        for place in sorted(sessions):
            if names.session(*place) not in self._inventory.others:
                plan.absent_sessions.add(place)
                self._risk("missing", names.session(*place), "is missing, and with it a key", ())

    def _hidden_manifests(self) -> None:
        for standing in self._live:
            info = self._inventory.others.get(standing.point.name)
            if info is not None:
                self._look_at(info.name, info.stored_at, standing.locked_until, ())

    # -- debt --------------------------------------------------------------------------------------

    def _in_debt(self, standing: Standing) -> bool:
        return self._is_due(standing.locked_until) or any(
            self._lacks(use) for use in standing.point.manifest.uses
        )

    def _lacks(self, use: Use) -> bool:
        place = (use.writer, use.session)
        lost = place in self._due_sessions or place in self._plan.absent_sessions
        return lost or self._due.meets(use) or self._plan.absent.meets(use)


_SEAL_END = len("/") + 32 + len("/") + 8
