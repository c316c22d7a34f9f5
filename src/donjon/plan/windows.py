"""Parts of the day in which work may start, on the clock of a time zone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from donjon.plan.cron import at


@dataclass(frozen=True, slots=True)
class Opening:
    """One time that a window is open, in Unix seconds; ``closes_at`` is the first moment after it."""

    opens_at: int
    closes_at: int


@dataclass(frozen=True, slots=True)
class DailyWindow:
    """A window of every day, in minutes after midnight; it crosses midnight if it ends before it starts."""

    start: int
    end: int

    @classmethod
    def of(cls, start: str, end: str) -> DailyWindow:
        """From times of the day like ``22:30``."""
        return cls(_minutes(start), _minutes(end))

    @property
    def length_m(self) -> int:
        """How long it is open, in minutes."""
        return (self.end - self.start) % 1440 or 1440

    def contains(self, minute: int) -> bool:
        """Whether a minute of the day is within."""
        return (minute - self.start) % 1440 < self.length_m

    def at_or_after(self, moment: int, zone: ZoneInfo) -> Opening:
        """The opening that a moment is within, else the next one."""
        return next(opening for opening in self._openings(moment, zone) if opening.closes_at > moment)

    def _openings(self, moment: int, zone: ZoneInfo) -> Iterator[Opening]:
        """All of them from the day before yesterday on, as a zone may skip a day."""
        day = datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0, hour=0, minute=0, second=0)
        day -= timedelta(days=2)
        while True:
            yield self._on(day, zone)
            day += timedelta(days=1)

    def _on(self, day: datetime, zone: ZoneInfo) -> Opening:
        length = timedelta(minutes=self.length_m)
        start = day + timedelta(minutes=self.start)
        opens_at = at(start, zone)
        # Its last second is what may be skipped or come twice, not the moment at which it has ended.
        closes_at = at(start + length - timedelta(seconds=1), zone, last=True) + 1
        if closes_at <= opens_at:  # the clocks were put forward within it
            closes_at = opens_at + int(length.total_seconds())
        return Opening(opens_at, closes_at)


def _minutes(time: str) -> int:
    hours, minutes = time.split(":")
    return int(hours) * 60 + int(minutes)
