"""Times of a crontab: five fields, read as cron reads them, on the clock of a time zone.

`APScheduler <https://apscheduler.readthedocs.io/en/3.x/modules/triggers/cron.html>`_ finds the times. It
counts days of the week from Monday where cron counts from Sunday (its issue 286), and wants both a day of
the month and a day of the week where cron, see crontab(5), wants either. So the fields are read here, and
translated.
"""

from __future__ import annotations

import calendar
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

_MONTHS: Final = tuple(name.lower() for name in calendar.month_abbr)[1:]
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_ITEM: Final = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d{1,4}))?", re.ASCII)
_MAX_CHARACTERS: Final = 500
#: No change of a clock is larger: Samoa left out a whole day in 2011.
_AROUND: Final = timedelta(hours=26)
_SHAPE: Final = "write minute, hour, day of month, month and day of week, such as '30 2 * * 1-5'"


@dataclass(frozen=True, slots=True)
class _Field:
    """What one field may hold; ``names`` stand for numbers from ``first`` on."""

    name: str
    first: int
    last: int
    names: tuple[str, ...] = ()

    def read(self, text: str) -> frozenset[int]:
        """The numbers that are meant. Raises ``ValueError``."""
        return frozenset(number for item in text.lower().split(",") for number in self._item(item))

    def _item(self, text: str) -> range:
        match = _ITEM.fullmatch(text)
        if not match:
            raise ValueError(f"{text!r} is no {self.name}; {_SHAPE}")
        low, high, step = match.groups()
        if low is None:
            first, last = self.first, self.last
        else:
            first = self._number(low)
            last = self._number(high) if high else self.last if step else first
        if first > last:
            raise ValueError(f"{text!r}: the range of the {self.name} ends before it begins")
        if step is not None and int(step) == 0:
            raise ValueError(f"{text!r}: a step of 0 never comes to the next {self.name}")
        return range(first, last + 1, int(step or 1))

    def _number(self, text: str) -> int:
        if text in self.names:
            return self.names.index(text) + self.first
        if not text.isdecimal() or not self.first <= int(text) <= self.last:
            raise ValueError(f"{text!r} is no {self.name}: it goes from {self.first} to {self.last}")
        return int(text)


_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _DAYS),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """A schedule of cron. ``weekdays`` count from Sunday, 0, as cron has it.

    If both the day of the month and the day of the week are given, a day needs to be only one of them.
    """

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    @classmethod
    @functools.lru_cache(maxsize=1024)
    def parse(cls, text: str) -> Cron:
        """Raises ``ValueError`` that says what is wrong."""
        if len(text) > _MAX_CHARACTERS or len(fields := text.split()) != len(_FIELDS):
            raise ValueError(f"{text[:60]!r} are not the five fields of cron; {_SHAPE}")
        minutes, hours, days, months, weekdays = (
            field.read(part) for field, part in zip(_FIELDS, fields, strict=True)
        )
        return cls(text, minutes, hours, days, months, frozenset(day % 7 for day in weekdays))

    @property
    def is_every_hour(self) -> bool:
        """Whether it goes by the hour rather than by times of the day."""
        return self.text.split()[1].startswith("*")

    @property
    def is_either_day(self) -> bool:
        """Whether a day of the month or of the week is enough. See crontab(5)."""
        fields = self.text.split()
        return not fields[2].startswith("*") and not fields[4].startswith("*")

    @property
    def can_fire(self) -> bool:
        """Whether there is any day that it means; there is no 30 February."""
        if self.is_either_day:
            return True
        return any(day <= _longest(month) for day in self.days for month in self.months)

    def is_on(self, day: date) -> bool:
        """Whether it means this day."""
        if day.month not in self.months:
            return False
        is_day, is_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return is_day or is_weekday if self.is_either_day else is_day and is_weekday

    @property
    def minutes_of_day(self) -> list[int]:
        """Its times on each of its days, in minutes after midnight, ascending."""
        return sorted(hour * 60 + minute for hour in self.hours for minute in self.minutes)

    def after(self, moment: int, zone: ZoneInfo) -> int | None:
        """The first time later than a moment, both in Unix seconds; None if there is none.

        A time that the zone skips is as much later as its clocks are put forward. One that comes twice counts
        the first time only; but every minute or hour goes on through the hour that comes again.
        """
        if not self.can_fire:
            return None
        lag = timedelta(seconds=_lag(moment, zone))
        begin = datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0, microsecond=0) - lag
        found: list[int] = []
        for wall in self._walls(begin):
            first, second = at(wall, zone), at(wall, zone, last=True)
            found += [t for t in ((first, second) if self.is_every_hour else (first,)) if t > moment]
            if first > moment and not is_skipped(wall, zone):
                return min(found)
        return None

    def _walls(self, begin: datetime) -> Iterator[datetime]:
        """Its times from ``begin`` on, without a time zone."""
        wall = begin.replace(tzinfo=UTC)
        triggers = _triggers(self)
        while times := [t for trigger in triggers if (t := trigger.get_next_fire_time(None, wall))]:
            wall = min(times)
            yield wall.replace(tzinfo=None)
            wall += timedelta(minutes=1)


@functools.lru_cache(maxsize=1024)
def _triggers(cron: Cron) -> tuple[Any, ...]:
    """What finds its times: one trigger, or two of which either is enough.

    It is given numbers, for it refuses some ranges and steps that cron takes.
    """
    from apscheduler.triggers.cron import CronTrigger

    weekday = ",".join(_DAYS[number] for number in sorted(cron.weekdays))
    days = [{"day": _listed(cron.days, 31)}, {"day_of_week": weekday}]
    if not cron.is_either_day:
        days = [days[0] | days[1]]
    end = datetime(9990, 1, 1, tzinfo=UTC)
    fields = {"minute": _listed(cron.minutes, 60), "hour": _listed(cron.hours, 24)}
    fields |= {"month": _listed(cron.months, 12), "second": "0"}
    return tuple(CronTrigger(**fields, timezone=UTC, end_date=end, **which) for which in days)


def _listed(numbers: frozenset[int], all_of_them: int) -> str:
    return "*" if len(numbers) == all_of_them else ",".join(map(str, sorted(numbers)))


def at(wall: datetime, zone: ZoneInfo, *, last: bool = False) -> int:
    """The moment at which clocks of a zone show a time, in Unix seconds.

    A time that they skip is as much later as they are put forward. Of one that comes twice it is the first,
    or with ``last`` the second.
    """
    early, late = (wall.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1))
    offset = min(early, late) if last else early
    return int((wall.replace(tzinfo=UTC) - offset).timestamp())


def is_skipped(wall: datetime, zone: ZoneInfo) -> bool:
    """Whether the clocks of a zone never show this time, as they are put forward past it."""
    shown = datetime.fromtimestamp(at(wall, zone), zone)
    return shown.replace(tzinfo=None, fold=0) != wall


def _lag(moment: int, zone: ZoneInfo) -> int:
    """By how many seconds at most the clocks of a zone were, or will be, changed around a moment."""
    here = datetime.fromtimestamp(moment, UTC)
    offsets = [
        (here + by).astimezone(zone).utcoffset() or timedelta() for by in (-_AROUND, 0 * _AROUND, _AROUND)
    ]
    return int((max(offsets) - min(offsets)).total_seconds())


def _longest(month: int) -> int:
    """The days of a month in a leap year."""
    return calendar.monthrange(2024, month)[1]
