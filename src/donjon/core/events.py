"""How long work reports its progress, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

#: Called wherever long work may end with nothing half done. Raises ``Interrupted`` if it is to end.
StopCheck = Callable[[], None]


def never_stop() -> None:
    """The check of work that nobody can interrupt."""


class Progress(Protocol):
    """Receives what a long operation does. Calls come from one thread and must return fast."""

    def total(self, *, items: int | None = None, size_bytes: int | None = None) -> None:
        """The expected amount of work, as far as it is known."""

    def advance(self, *, items: int = 0, size_bytes: int = 0, current: str = "") -> None:
        """More work was done; ``current`` names what is being worked on."""

    def note(self, message: str) -> None:
        """Something the user should read, such as an unreadable item."""


class Silent:
    """A listener that ignores everything."""

    def total(self, *, items: int | None = None, size_bytes: int | None = None) -> None:
        pass

    def advance(self, *, items: int = 0, size_bytes: int = 0, current: str = "") -> None:
        pass

    def note(self, message: str) -> None:
        pass
