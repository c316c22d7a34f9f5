"""The list of changed blocks of a volume, as its user's tool made it. See docs/workloads/block.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from donjon.core.errors import UsageError

#: The generation of the volume that an entry was made from.
GENERATION_ATTRIBUTE = b"donjon.generation"

_MAX_BYTES = 1 << 28
_Offset = Annotated[int, msgspec.Meta(ge=0, le=(1 << 62))]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class _Range(msgspec.Struct, frozen=True):
    offset: _Offset
    length: _Offset


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    generation: _Text
    changed: tuple[_Range, ...] = ()
    since: _Text | None = None


@dataclass(frozen=True, slots=True)
class ChangedBlocks:
    """What has changed from one generation of a volume to another.

    ``generation`` is what is read now. The ranges are (offset, length), ascending, and hold for a point
    that was made from the generation ``since`` only.
    """

    generation: str
    since: str | None
    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def read(cls, path: Path) -> ChangedBlocks:
        """From a file. Raises ``UsageError``."""
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            msg = f"{path}: {error.strerror}"
            raise UsageError(msg, hint="Give the list of changed blocks by its path.") from error
        if len(data) > _MAX_BYTES:
            raise UsageError(f"{path}: is too long", hint="Leave it out: then everything is read.")
        try:
            parsed = msgspec.json.decode(data, type=_File)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            hint = "Its form is described in docs/workloads/block.md. Without it everything is read."
            raise UsageError(f"{path}: {error}", hint=hint) from error
        ranges = sorted((row.offset, row.length) for row in parsed.changed if row.length)
        return cls(parsed.generation, parsed.since, tuple(ranges))
