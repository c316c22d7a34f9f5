"""The port to where a volume is restored as a whole."""

from __future__ import annotations

from typing import Protocol

from donjon.targets.base import Buffer


class VolumeTarget(Protocol):
    """A disk that is being written. ``write_at`` and ``read_at`` may be called from many threads.

    Offsets are multiples of ``unit_bytes``; so are lengths, but for what ends at the end of the volume.
    """

    unit_bytes: int
    #: How many writes at once make it fastest.
    parallel: int

    def begin(self, size: int) -> None:
        """Get ready for a volume of ``size`` bytes.

        Raises ``Refused`` if that does not fit, or would overwrite what nobody said may be overwritten.
        """

    def write_at(self, offset: int, data: Buffer) -> None:
        """Write data. Raises ``TargetFailed``."""

    def clear(self, offset: int, length: int) -> None:
        """Let this read as zeros."""

    def finish(self) -> None:
        """Make what was written last, and give it its name."""

    def abort(self) -> None:
        """Throw away what was written, as far as possible. Never raises."""

    def read_at(self, offset: int, length: int) -> bytes | memoryview:
        """What is there, after ``finish``; for verifying."""

    def is_zero(self, offset: int, length: int) -> bool:
        """Whether all of this reads as zeros, after ``finish``."""

    def close(self) -> None:
        """Let go of everything. Harmless at any time, and more than once."""

    def made(self) -> tuple[str, list[str]]:
        """What there is now, and what the user should know or do next."""
