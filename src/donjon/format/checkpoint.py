"""Checkpoints: which points a vault had when its custodian looked. See ``docs/format.md``, "Checkpoints"."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from donjon.codec.digest import DIGEST_BYTES
from donjon.format.limits import LATEST, MAX_NUMBER, check_id, check_number, check_time, require

_ROW: Final = struct.Struct(f"<IQQ{DIGEST_BYTES}s")
#: What stands for the checkpoint before the first one.
NO_CHECKPOINT: Final = bytes(DIGEST_BYTES)


class Row(NamedTuple):
    """One point. ``time`` is the provider's and ``protected_until`` the manifest's, in Unix seconds."""

    sequence: int
    time: int
    protected_until: int
    point_id: bytes


class Chain(msgspec.Struct, array_like=True, frozen=True):
    """The points of one writer. ``last`` is the highest sequence it ever came to, ``head`` its point id.

    ``packed`` holds a row of 52 bytes for each point that was there.
    """

    writer: bytes
    last: int
    head: bytes
    packed: bytes

    def __post_init__(self) -> None:
        check_id(self.writer)
        check_number(self.last)
        require(len(self.head) == DIGEST_BYTES, "head")
        require(len(self.packed) % _ROW.size == 0, "rows")
        before = 0
        for row in self.rows():
            require(before < row.sequence <= min(self.last, MAX_NUMBER), "order of the rows")
            require(row.time <= LATEST and row.protected_until <= LATEST, "time")
            require(row.sequence < self.last or row.point_id == self.head, "head")
            before = row.sequence

    def rows(self) -> Iterator[Row]:
        """The points, by sequence."""
        return itertools.starmap(Row, _ROW.iter_unpack(self.packed))


def chain(writer: bytes, last: int, head: bytes, rows: Iterable[Row]) -> Chain:
    """The chain with these rows, which ascend."""
    return Chain(writer, last, head, b"".join(itertools.starmap(_ROW.pack, rows)))


class Checkpoint(msgspec.Struct, array_like=True, frozen=True):
    """The state of all manifests. ``created_at`` is the provider's time; ``head`` is the digest of the
    keyring record ``keyring_number``, or of the vault object if that is 0.
    """

    custodian: bytes
    number: int
    previous: bytes
    created_at: int
    keyring_number: int
    head: bytes
    chains: tuple[Chain, ...]

    def __post_init__(self) -> None:
        check_id(self.custodian)
        check_number(self.number)
        check_time(self.created_at)
        require(0 <= self.keyring_number <= MAX_NUMBER, "keyring number")
        require(len(self.head) == DIGEST_BYTES and len(self.previous) == DIGEST_BYTES, "digest")
        require(self.number > 1 or self.previous == NO_CHECKPOINT, "previous")
        writers = [chain.writer for chain in self.chains]
        require(all(a < b for a, b in itertools.pairwise(writers)), "order of the chains")
