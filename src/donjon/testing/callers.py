"""Who calls a front: every caller has a door of its own, and what comes through it is judged by its roles.

The emulators know no identities, so the door is what tells them apart here; with the providers themselves a
token does. The order of things is the same: first who may, then what a lock allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from donjon.core.clock import Clock
from donjon.testing.front import Answer, Front, Request, Upstream


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request takes: a permission, on an object by its name (empty: the bucket), or on a listing.

    ``prefix`` is that of a listing.
    """

    permission: str
    name: str = ""
    is_listing: bool = False
    prefix: str = ""


class Caller(Protocol):
    """Somebody with roles."""

    @property
    def name(self) -> str:
        """What it is called in records."""

    def may(self, ask: Ask) -> bool:
        """Whether its roles allow it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What was asked by whom, and whether it was allowed."""

    caller: str
    ask: Ask
    allowed: bool


class CalledFront(Front):
    """A front that judges by callers; without one everything is allowed but what is in ``denied``."""

    #: Where the caller who is being answered reaches the front.
    address = ""

    def __init__(self, upstream: Upstream, clock: Clock) -> None:
        super().__init__(upstream, clock)
        self.caller: Caller | None = None
        self.judged: list[Judged] = []

    def permits(self, ask: Ask) -> bool:
        """Whether the caller may do this; what callers ask for is kept in ``judged``."""
        if ask.permission in self.denied:
            return False
        if self.caller is None:
            return True
        allowed = self.caller.may(ask)
        self.judged.append(Judged(self.caller.name, ask, allowed))
        return allowed


class Door(Front):
    """One caller's way into a front."""

    def __init__(self, inner: CalledFront, caller: Caller) -> None:
        super().__init__(inner.upstream, lambda: inner.clock())  # noqa: PLW0108 - tests change the clock
        self._inner, self._caller = inner, caller
        self.address = ""  #: where it is served

    def handle(self, request: Request) -> Answer:
        """Let the front answer as it answers this caller."""
        inner = self._inner
        with inner.mutex:
            before = inner.caller, inner.address
            inner.caller, inner.address = self._caller, self.address
            try:
                return inner.answer(request)
            finally:
                inner.caller, inner.address = before
