"""What a copy of a vault needs, in which order: pure. See ``docs/format.md``, section 22."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from donjon.format.manifest import PackKey
from donjon.format.table import PackRow
from donjon.repository.points import Point

_Session = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class Held:
    """What a store lists of a vault: sizes in bytes of signed objects by name, of packs by their digest."""

    signed: Mapping[str, int]
    packs: Mapping[bytes, int]


@dataclass(frozen=True, slots=True)
class Step:
    """Packs, by digest, then index objects, by name, then the manifest of ``point``, if any."""

    point: Point | None
    packs: tuple[bytes, ...]
    indexes: tuple[str, ...]
    is_history: bool = False


class Packs:
    """Where the packs are that points need, and which of them the target lacks.

    Whatever rows of hostile writers say, memory stays in proportion to the bitmaps of the points and the
    packs that the source really has.
    """

    def __init__(self, points: Iterable[Point], source: Held, target: Held, target_now: int) -> None:
        """``target_now`` tells which locks of packs have ended, in Unix seconds."""
        self._source, self._target, self._now = source, target, target_now
        self._needed: dict[_Session, bytearray] = {}
        for point in points:
            for use in point.manifest.uses:
                _add_bits(self._needed.setdefault((use.writer, use.session), bytearray()), use.bitmap)
        self._there = {session: bytearray(len(bits)) for session, bits in self._needed.items()}
        self._gone: dict[_Session, int] | None = None
        self._lacking: dict[_Session, dict[int, list[bytes]]] = {}
        self._claims: dict[bytes, list[PackKey]] = {}
        self._kept: dict[bytes, None] = {}
        self._named: set[bytes] = set()
        self._waiting: dict[bytes, list[str]] = {}
        self._waits_for: dict[str, int] = {}

    def add_index(self, name: str, writer: bytes, rows: Iterable[PackRow]) -> None:
        """An index object of the source."""
        is_new = name not in self._target.signed
        if is_new:
            self._waits_for[name] = 0
        for row in rows:
            if row.name in self._source.packs:
                self._named.add(row.name)
            self._place((writer, row.session, row.ordinal), row.name)
            if row.name in self._target.packs or not self.is_open(row):
                continue
            if row.name in self._source.packs:
                self._kept[row.name] = None
            if is_new:  # for ever, if the source does not have the pack
                self._waiting.setdefault(row.name, []).append(name)
                self._waits_for[name] += 1

    def add_trailer(self, key: PackKey, pack: bytes) -> None:
        """A pack of the source that no index object names."""
        self._place(key, pack)

    def unnamed(self) -> list[bytes]:
        """The packs of the source that no index object names."""
        return [pack for pack in self._source.packs if pack not in self._named]

    def unplaced(self) -> list[bytes]:
        """The packs that the target lacks, and that index objects name under no place that points need."""
        return [p for p in self._named if p not in self._target.packs and p not in self._claims]

    def is_open(self, row: PackRow) -> bool:
        """Whether a writer may rely on this row, for the lock that it tells has not ended."""
        return not row.lock_until or row.lock_until > self._now

    def lacks(self, point: Point) -> int:
        """How many packs of a point are nowhere."""
        if self._gone is None:  # mostly nothing is, and there may be many points of many sessions
            pairs = (
                (session, _number(bits) & ~_number(self._there[session]))
                for session, bits in self._needed.items()
            )
            self._gone = {session: bits for session, bits in pairs if bits}
        if not self._gone:
            return 0
        gone = ((use, self._gone.get((use.writer, use.session), 0)) for use in point.manifest.uses)
        return sum((_number(use.bitmap) & bits).bit_count() for use, bits in gone if bits)

    def claims(self, pack: bytes) -> list[PackKey]:
        """The places that a pack is said to have, if points need it there and the target lacks it."""
        return self._claims.get(pack, [])

    def blocked(self) -> list[str]:
        """After ``steps``: index objects that name packs which are nowhere, as if one could rely on them."""
        return [name for name, count in self._waits_for.items() if count]

    def steps(self, points: Iterable[Point], history: Collection[bytes]) -> list[Step]:
        """What to do for each point that the target lacks, or whose packs it lacks, and then for the rest.

        ``history`` are the ids of points whose packs are not wanted any more.
        """
        steps = [Step(None, (), tuple(name for name, count in self._waits_for.items() if not count))]
        for point in points:
            is_history = point.point_id in history
            packs = () if is_history else self._take(point)
            if packs or point.name not in self._target.signed:
                steps.append(Step(point, packs, self._complete(packs), is_history))
        rest = tuple(self._kept)
        steps.append(Step(None, rest, self._complete(rest)))
        return [step for step in steps if step.point or step.packs or step.indexes]

    def _place(self, key: PackKey, pack: bytes) -> None:
        writer, session, ordinal = key
        if not _has_bit(self._needed.get((writer, session), b""), ordinal):
            return
        if pack not in self._target.packs:
            if pack not in self._source.packs:
                return
            # Of several packs that claim one place all are copied: only one of them is what it claims.
            places = self._lacking.setdefault((writer, session), {}).setdefault(ordinal, [])
            if pack not in places:
                places.append(pack)
                self._claims.setdefault(pack, []).append(key)
        self._there[writer, session][ordinal >> 3] |= 1 << (ordinal & 7)
        self._gone = None

    def _take(self, point: Point) -> tuple[bytes, ...]:
        """The packs of a point that no step before has."""
        taken: dict[bytes, None] = {}
        for use in point.manifest.uses if self._lacking else ():
            lacking = self._lacking.get((use.writer, use.session), {})
            for ordinal in [ordinal for ordinal in sorted(lacking) if _has_bit(use.bitmap, ordinal)]:
                taken.update(dict.fromkeys(lacking.pop(ordinal)))
                if not lacking:
                    del self._lacking[use.writer, use.session]
        return tuple(taken)

    def _complete(self, packs: Iterable[bytes]) -> tuple[str, ...]:
        """The index objects that waited for the last of these packs only."""
        complete = []
        for pack in packs:
            self._kept.pop(pack, None)
            for name in self._waiting.pop(pack, ()):
                self._waits_for[name] -= 1
                if not self._waits_for[name]:
                    complete.append(name)
        return tuple(complete)


def _add_bits(bits: bytearray, more: bytes) -> None:
    if bits.startswith(more):  # most points need what the one before needed
        return
    bits.extend(bytes(max(0, len(more) - len(bits))))
    for at, byte in enumerate(more):
        bits[at] |= byte


def _has_bit(bits: bytes | bytearray, at: int) -> bool:
    return at >> 3 < len(bits) and bool(bits[at >> 3] >> (at & 7) & 1)


def _number(bits: bytes | bytearray) -> int:
    return int.from_bytes(bits, "little")
