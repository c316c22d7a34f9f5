"""A set of packs that can grow and shrink, a bit for each: a vault can have millions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from donjon.format.manifest import PackKey, PackSet, Use


class PackBits(PackSet):
    """Packs of all writers, by session."""

    def __init__(self, uses: Iterable[Use] = ()) -> None:
        super().__init__(())
        self.update(uses)

    def add(self, key: PackKey) -> None:
        """Take in one pack."""
        writer, session, ordinal = key
        bits = self._bitmaps.get((writer, session), b"")
        if not isinstance(bits, bytearray):
            bits = self._bitmaps[(writer, session)] = bytearray(bits)
        at = ordinal >> 3
        if at >= len(bits):
            bits.extend(bytes(at + 1 - len(bits)))
        bits[at] |= 1 << (ordinal & 7)

    def update(self, uses: Iterable[Use]) -> None:
        """Take in the packs of these uses."""
        gathered: dict[tuple[bytes, int], tuple[int, int]] = {}
        for use in uses:
            place, size = (use.writer, use.session), len(use.bitmap)
            bits, longest = gathered.get(place, (0, 0))
            gathered[place] = bits | _number(use.bitmap), max(size, longest)
        for place, (bits, size) in gathered.items():
            before = self._bitmaps.get(place, b"")
            self._bitmaps[place] = (bits | _number(before)).to_bytes(max(size, len(before)), "little")

    @classmethod
    def of_bitmaps(cls, bitmaps: Mapping[tuple[bytes, int], bytearray]) -> PackBits:
        """The packs of these sessions; see ``Use``."""
        made = cls()
        made._bitmaps.update(bitmaps)
        return made

    def bitmap(self, writer: bytes, session: int) -> bytes | bytearray:
        """The packs of one session; see ``Use``."""
        return self._bitmaps.get((writer, session), b"")

    def meets(self, use: Use) -> bool:
        """Whether any pack of this use is in here."""
        bits = self._bitmaps.get((use.writer, use.session))
        return bits is not None and bool(_number(bits) & _number(use.bitmap))

    def without(self, other: PackBits) -> PackBits:
        """The packs that are in here and not in the other."""
        left = PackBits()
        for place, bits in self._bitmaps.items():
            rest = _number(bits) & ~_number(other._bitmaps.get(place, b""))
            if rest:
                left._bitmaps[place] = rest.to_bytes(len(bits), "little")
        return left

    @property
    def sessions(self) -> Iterator[tuple[bytes, int]]:
        """(writer, session) of every session with packs in here."""
        return iter(self._bitmaps)

    def uses(self) -> tuple[Use, ...]:
        """The same packs as an object of the vault names them: by writer and session, ascending."""
        return tuple(
            Use(writer, session, packed)
            for (writer, session), bits in sorted(self._bitmaps.items())
            if (packed := bytes(bits).rstrip(b"\0"))
        )


def _number(bits: bytes | bytearray) -> int:
    return int.from_bytes(bits, "little")
