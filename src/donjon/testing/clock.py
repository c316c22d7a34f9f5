"""A clock that a test moves."""

from __future__ import annotations


class ManualClock:
    """Stands still at ``unix_seconds`` until it is told to move. Fits wherever a ``Clock`` is wanted."""

    def __init__(self, unix_seconds: int = 1_800_000_000) -> None:
        self.unix_seconds = unix_seconds

    def __call__(self) -> int:
        return self.unix_seconds

    def advance(self, seconds: int) -> None:
        """Move; a negative number turns the clock back, as a wrong clock does."""
        self.unix_seconds += seconds
