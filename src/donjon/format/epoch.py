"""Epochs: which objects a custodian has locked anew, and until when. See ``docs/format.md``, "Epochs"."""

from __future__ import annotations

import itertools
from typing import Final

import msgspec

from donjon.format.limits import LATEST, check_id, check_number, check_time, require
from donjon.format.manifest import MAX_PACKS, Use

#: Names of objects other than packs in one epoch object.
MAX_NAMES: Final = 65_536
_MAX_NAME: Final = 200


class Epoch(msgspec.Struct, array_like=True, frozen=True):
    """Objects that are locked until ``until`` at least, in Unix seconds by the provider's clock.

    ``packs`` are bitmaps as in a manifest, of any writers; ``names`` are the other objects.
    """

    custodian: bytes
    number: int
    created_at: int
    until: int
    packs: tuple[Use, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        check_id(self.custodian)
        check_number(self.number)
        check_time(self.created_at)
        require(0 <= self.until <= LATEST, "end of the locks")
        require(sum(len(use.bitmap) for use in self.packs) <= MAX_PACKS, "bitmaps")
        sessions = [(use.writer, use.session) for use in self.packs]
        require(all(a < b for a, b in itertools.pairwise(sessions)), "order of the packs")
        require(len(self.names) <= MAX_NAMES, "number of names")
        require(all(len(name) <= _MAX_NAME for name in self.names), "name")
        require(all(a < b for a, b in itertools.pairwise(self.names)), "order of the names")
