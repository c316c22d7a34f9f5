"""The marks by which a snapshot is known as Donjon's: pure.

They are tags of the snapshot where the provider has tags, and carry all that a listing needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from donjon.core.clock import iso
from donjon.core.errors import UsageError

#: Marks a snapshot as Donjon's; its value is the workload.
TAG: Final = "donjon-workload"
#: The id that all snapshots of one run share.
SET_TAG: Final = "donjon-set"
#: How many volumes the set has, so that a set of which some vanished is not taken for a whole one.
SIZE_TAG: Final = "donjon-set-size"
#: Snapshots with the same value were taken at one moment.
MOMENT_TAG: Final = "donjon-moment"
#: The volume, where the provider forgets it: of copies.
VOLUME_TAG: Final = "donjon-volume"
#: The snapshot that a copy was made from.
ORIGIN_TAG: Final = "donjon-origin"

_WORKLOAD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,39}")
_SIZE: Final = re.compile(r"[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True)
class Marks:
    """What the marks of one snapshot say."""

    workload: str
    set_id: str
    set_size: int
    moment: str = ""
    volume_id: str = ""
    origin: str = ""

    @property
    def tags(self) -> dict[str, str]:
        """As tags. Raises ``UsageError`` for names that are none."""
        check_names(self.workload, self.set_id)
        tags = {
            TAG: self.workload,
            SET_TAG: self.set_id,
            SIZE_TAG: str(self.set_size),
            MOMENT_TAG: self.moment,
            VOLUME_TAG: self.volume_id,
            ORIGIN_TAG: self.origin,
        }
        return {name: value for name, value in tags.items() if value}

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> Marks | None:
        """From tags; None if they are not Donjon's, or were made up badly."""
        workload, set_id, size = (tags.get(name, "") for name in (TAG, SET_TAG, SIZE_TAG))
        if not (_WORKLOAD.fullmatch(workload) and _SET.fullmatch(set_id) and _SIZE.fullmatch(size)):
            return None
        moment, volume, origin = (tags.get(name, "") for name in (MOMENT_TAG, VOLUME_TAG, ORIGIN_TAG))
        return cls(workload, set_id, int(size), moment, volume, origin)


def check_names(workload: str, set_id: str) -> None:
    """Raises ``UsageError`` for a workload or a set that no mark can hold."""
    if not _WORKLOAD.fullmatch(workload):
        msg = f"{workload!r} is no name of a workload"
        raise UsageError(msg, hint="Use letters, digits, '.', '_' and '-', 63 at most.")
    if not _SET.fullmatch(set_id):
        msg = f"{set_id!r} is no id of a set of snapshots"
        raise UsageError(msg, hint="Use letters, digits and '-', 40 at most.")


def new_set_id(now: int, random: bytes) -> str:
    """The id of a new set, such as ``20261126t055500z-1f2e3d4c``. ``random`` are 4 bytes."""
    return f"{iso(now).replace('-', '').replace(':', '').lower()}-{random[:4].hex()}"
