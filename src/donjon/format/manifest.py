"""Manifests: the one object that commits a recovery point. See ``docs/format.md``, "Manifests".

The open part tells the order of things and which packs a point needs, so that whoever keeps the vault
can do so without any key. What was backed up is in the sealed part.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Set
from typing import TypeVar, cast

import msgspec

from donjon.codec.digest import DIGEST_BYTES
from donjon.codec.seal import BOX_BYTES, Sealer
from donjon.core.errors import IntegrityFailure
from donjon.format.limits import check_id, check_number, check_time, require
from donjon.format.objects import pad, unpad
from donjon.format.session import manifest_key

T = TypeVar("T")

#: Packs that a point can need, and that a session can have.
MAX_PACKS = 1 << 22


#: A pack among those of all writers: writer id, session number, ordinal.
PackKey = tuple[bytes, int, int]


class Use(msgspec.Struct, array_like=True, frozen=True):
    """Packs of one session that a point needs: bit ``i`` (least significant first) is ordinal ``i``."""

    writer: bytes
    session: int
    bitmap: bytes

    def __post_init__(self) -> None:
        check_id(self.writer)
        check_number(self.session)
        require(len(self.bitmap) <= MAX_PACKS // 8, "bitmap")

    def ordinals(self) -> Iterator[int]:
        """The ordinals of the packs, ascending."""
        return (
            8 * i + bit for i, byte in enumerate(self.bitmap) if byte for bit in range(8) if byte >> bit & 1
        )


class PackSet(Set[PackKey]):
    """The packs that a point needs, as bitmaps: a hostile manifest can name millions."""

    def __init__(self, uses: Iterable[Use]) -> None:
        self._bitmaps: dict[tuple[bytes, int], bytes | bytearray] = {
            (use.writer, use.session): use.bitmap for use in uses
        }

    def __contains__(self, key: object) -> bool:
        writer, session, ordinal = cast("PackKey", key)
        bits = self._bitmaps.get((writer, session), b"")
        return ordinal >> 3 < len(bits) and bool(bits[ordinal >> 3] >> (ordinal & 7) & 1)

    def __iter__(self) -> Iterator[PackKey]:
        for (writer, session), bits in self._bitmaps.items():
            for ordinal in Use(writer, session, bytes(bits)).ordinals():
                yield writer, session, ordinal

    def __len__(self) -> int:
        return sum(map(_count, self._bitmaps.values()))

    @classmethod
    def _from_iterable(cls, it: Iterable[T]) -> Set[T]:
        return frozenset(it)


def _count(bits: bytes | bytearray) -> int:
    return int.from_bytes(bits, "little").bit_count()


class Manifest(msgspec.Struct, array_like=True, frozen=True):
    """The open part. ``previous`` is the digest of the writer's manifest before, zeros for the first.

    ``created_at`` is the writer's clock, for people only. ``protected_until`` is the earliest end of
    all locks that the point hangs on, as known when it was committed, 0 if something is not locked.
    """

    writer: bytes
    sequence: int
    previous: bytes
    session: int
    created_at: int
    protected_until: int
    uses: tuple[Use, ...]
    sealed: bytes

    def __post_init__(self) -> None:
        check_id(self.writer)
        check_number(self.sequence)
        check_number(self.session)
        check_time(self.created_at)
        check_time(self.protected_until)
        require(len(self.previous) == DIGEST_BYTES, "previous")
        require(sum(_count(use.bitmap) for use in self.uses) <= MAX_PACKS, "uses")
        require(all(use.writer == self.writer for use in self.uses), "uses of another writer")
        sessions = [use.session for use in self.uses]
        require(all(a < b for a, b in itertools.pairwise(sessions)), "order of the uses")


class PointBody(msgspec.Struct, array_like=True, frozen=True):
    """The sealed part. Sizes are in bytes, times in Unix seconds by the writer's clock.

    ``roots`` are the ids of the chunks that list the metadata segments, end to end; ``problems`` are
    the ids of the chunks that list the items that could not be read.
    """

    workload: str
    host: str
    sources: tuple[bytes, ...]
    tags: tuple[str, ...]
    started_at: int
    finished_at: int
    files: int
    directories: int
    others: int
    size_bytes: int
    files_new: int
    files_changed: int
    files_unmodified: int
    bytes_read: int
    bytes_stored: int
    problem_count: int
    roots: bytes
    problems: bytes
    program: str

    def __post_init__(self) -> None:
        check_time(self.started_at)
        check_time(self.finished_at)
        require(len(self.roots) % DIGEST_BYTES == 0, "roots")
        require(len(self.problems) % DIGEST_BYTES == 0, "problems")
        counts = (self.files, self.directories, self.others, self.size_bytes, self.problem_count)
        require(min(counts) >= 0, "counts")


def bitmap(ordinals: set[int]) -> bytes:
    """The bitmap of a ``Use``."""
    bits = bytearray(max(ordinals, default=-1) // 8 + 1)
    for ordinal in ordinals:
        bits[ordinal // 8] |= 1 << ordinal % 8
    return bytes(bits)


def seal_body(session_key: bytes, body: PointBody) -> bytes:
    """The sealed part."""
    return Sealer(manifest_key(session_key)).box(pad(msgspec.msgpack.encode(body), BOX_BYTES))


def open_body(session_key: bytes, sealed: bytes, what: str) -> PointBody:
    """Raises ``IntegrityFailure`` if the sealed part was changed or cannot be read."""
    plain = unpad(Sealer(manifest_key(session_key)).open_box(sealed, what), what)
    try:
        body = msgspec.msgpack.decode(plain, type=PointBody)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        msg = f"{what}: its sealed part cannot be read: {error}"
        raise IntegrityFailure(msg) from error
    return body
