"""When work is due, over time zones, changes of their clocks, windows, jitter and crashes."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from donjon.plan.cron import Cron, at, is_skipped
from donjon.plan.gaps import longest_gap
from donjon.plan.model import Rules, Schedule, Window
from donjon.plan.windows import DailyWindow
from donjon.scheduling.due import History, due_at

#: An hour, half an hour (Lord Howe), a whole day that was left out (Apia, 2011), at midnight (Cairo, Havana),
#: twice a year around Ramadan (Casablanca), south of the equator, and none at all.
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Cairo",
    "America/Havana",
    "Africa/Casablanca",
    "America/Santiago",
    "Asia/Kolkata",
)
DAY = 86_400
#: 2010 to 2040.
MOMENTS = st.integers(1_262_304_000, 2_208_988_800)
MINUTES = st.integers(0, 1439)


def clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def walls(moment: int, zone: ZoneInfo, days: int = 3) -> list[datetime]:
    """Midnights of the days around a moment, by the zone's clock."""
    day = datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0, hour=0, minute=0, second=0)
    return [day + timedelta(days=number) for number in range(-days, days + 1)]


def next_change(moment: int, zone: ZoneInfo) -> int | None:
    """The second at which the clocks of a zone are changed next, within 200 days."""

    def offset(when: int) -> timedelta | None:
        return datetime.fromtimestamp(when, zone).utcoffset()

    for day in range(200):
        low, high = moment + day * DAY, moment + (day + 1) * DAY
        if offset(low) != offset(high):
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
            return high
    return None


@st.composite
def near_changes(draw: st.DrawFn) -> tuple[int, ZoneInfo]:
    """A moment, more often than not within hours of a change of clocks, and the zone."""
    zone, moment = ZoneInfo(draw(st.sampled_from(ZONES))), draw(MOMENTS)
    near = draw(st.sampled_from((0, 60, 300, 600, 1500)))  # minutes
    change = next_change(moment, zone) if near else None
    return (moment if change is None else change + 60 * draw(st.integers(-near, near))), zone


@st.composite
def crons(draw: st.DrawFn) -> str:
    def field(first: int, last: int) -> str:
        low = draw(st.integers(first, last))
        high = draw(st.integers(low, last))
        step = draw(st.integers(1, last))
        return draw(st.sampled_from(("*", "*", f"{low}", f"{low}-{high}", f"*/{step}", f"{low},{high}")))

    day = draw(st.sampled_from(("*", "*", field(1, 31))))
    return " ".join((field(0, 59), field(0, 23), day, "*", field(0, 7)))


@settings(max_examples=120, deadline=None)
@given(crons(), near_changes())
@example("*/15 * * * *", (1_792_889_100, ZoneInfo("Europe/Berlin")))  # 02:45, before it is 02:00 again
@example("20,40 2 * * *", (1_791_040_800, ZoneInfo("Australia/Lord_Howe")))  # 02:20 is skipped, 02:40 is not
def test_the_next_time_is_the_first_of_all_times_of_the_days_around(
    text: str, around: tuple[int, ZoneInfo]
) -> None:
    """The model: every minute of the days around that the fields mean, each mapped to a moment."""
    moment, zone = around
    cron = Cron.parse(text)
    found = set()
    for day in walls(moment, zone):
        if not cron.is_on(day.date()):
            continue
        for minute in cron.minutes_of_day:
            wall = day + timedelta(minutes=minute)
            found |= {at(wall, zone), at(wall, zone, last=True)} if cron.is_every_hour else {at(wall, zone)}
    later = sorted(t for t in found if moment < t <= moment + 2 * DAY)
    told = cron.after(moment, zone)
    if later:
        assert told == later[0]
    else:
        assert told is None or told > moment + 2 * DAY


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 23), st.integers(0, 59), near_changes())
@example(2, 30, (1_774_656_000, ZoneInfo("Europe/Berlin")))
@example(2, 30, (1_792_800_000, ZoneInfo("Europe/Berlin")))
def test_a_daily_time_comes_once_each_day(hour: int, minute: int, around: tuple[int, ZoneInfo]) -> None:
    """Also on days on which it is skipped or comes twice; never twice for one day."""
    moment, zone = around
    cron = Cron.parse(f"{minute} {hour} * * *")
    told, last = [], moment
    for _ in range(6):
        found = cron.after(last, zone)
        assert found is not None
        told.append(found)
        last = found
    wanted = sorted({at(day + timedelta(hours=hour, minutes=minute), zone) for day in walls(moment, zone, 9)})
    assert told == [t for t in wanted if t > moment][:6]


@settings(max_examples=200, deadline=None)
@given(MINUTES, MINUTES, near_changes())
def test_a_window_opens_every_day_and_holds_its_minutes(
    start: int, end: int, around: tuple[int, ZoneInfo]
) -> None:
    assume(start != end)
    moment, zone = around
    window = DailyWindow(start, end)
    opening = window.at_or_after(moment, zone)
    assert opening.closes_at > moment
    assert opening.opens_at < opening.closes_at
    assert opening.opens_at <= moment + 3 * DAY  # a day may be left out
    inside = max(moment, opening.opens_at)
    assert window.at_or_after(inside, zone) == opening
    wall = datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0)
    shifts = {datetime.fromtimestamp(moment + by * DAY, zone).utcoffset() for by in (-2, -1, 0, 1, 2)}
    if len(shifts) == 1:  # where no clock changes it is just the time of the day
        assert (opening.opens_at <= moment) == window.contains(wall.hour * 60 + wall.minute)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    start, end = draw(MINUTES), draw(MINUTES)
    window = None if start == end or draw(st.booleans()) else Window(start=clock(start), end=clock(end))
    times = {"every": f"{draw(st.integers(1, 3000))}m"} if draw(st.booleans()) else {"cron": draw(crons())}
    zone, jitter = draw(st.sampled_from(ZONES)), f"{draw(st.integers(0, 180))}m"
    return Schedule.model_validate({**times, "time_zone": zone, "jitter": jitter, "window": window})


HISTORIES = st.tuples(st.integers(0, 9), st.booleans(), st.integers(0, 20 * DAY), st.integers(0, 5000))


@settings(max_examples=200, deadline=None)
@given(schedules(), near_changes(), HISTORIES)
def test_who_waits_until_it_is_due_finds_it_due(
    schedule: Schedule, around: tuple[int, ZoneInfo], seen: tuple[int, bool, int, int]
) -> None:
    """Asking again on the way gives the same, and at that time it is due: a loop never starves."""
    now, (failures, can_retry, ago, took) = around[0], seen
    history = History(now - ago, None, min(now, now - ago + took), failures, can_retry)
    rules = Rules(schedule=schedule)
    due = due_at(rules, "w", history, now)
    if due is None:
        return
    if due > now:
        for later in (now + 1, (now + due) // 2, due - 1):
            if now < later < due:
                assert due_at(rules, "w", history, later) == due
        again = due_at(rules, "w", history, due)
        assert again is not None
        assert again <= due
    if schedule.window is not None:
        window = DailyWindow.of(schedule.window.start, schedule.window.end)
        start = max(due, now)
        assert window.at_or_after(start, ZoneInfo(schedule.time_zone)).opens_at <= start
    assert due_at(rules, "w", history, now) == due


@settings(max_examples=100, deadline=None)
@given(schedules(), near_changes())
def test_after_a_start_it_is_not_due_again_at_once(schedule: Schedule, around: tuple[int, ZoneInfo]) -> None:
    """However long it slept: one run makes up for all that were missed."""
    now = around[0]
    due = due_at(Rules(schedule=schedule), "w", History(last_started_at=now, last_succeeded_at=now), now)
    assert due is None or due > now


@settings(max_examples=60, deadline=None)
@given(schedules(), st.integers(0, 3000))
def test_no_two_starts_are_further_apart_than_lint_says(schedule: Schedule, day: int) -> None:
    schedule = schedule.model_copy(update={"time_zone": "UTC"})
    gap = longest_gap(schedule)
    assume(gap is not None and gap < 40 * DAY)
    assert gap is not None
    rules, last, starts = Rules(schedule=schedule), 1_600_000_000 + day * DAY, []
    # It may have begun by hand, at any time; its starts fall in with the window once one had to wait for it.
    falls_in = schedule.every is None or schedule.window is None
    for _ in range(60):
        due = due_at(rules, "w", History(last_started_at=last), last)
        assert due is not None
        falls_in = falls_in or due - last > (schedule.every or 0) + schedule.jitter
        if falls_in:
            starts.append(due)
        last = due
    apart = [later - sooner for sooner, later in itertools.pairwise(starts)] or [0]
    # An interval in a window is not bound to times of the day: each start may come when it has just closed.
    room = DAY if schedule.every is not None and schedule.window is not None and schedule.jitter else 0
    assert max(apart) <= gap + room


@pytest.mark.parametrize("zone", ZONES)
def test_skipped_times_are_those_that_no_moment_shows(zone: str) -> None:
    info = ZoneInfo(zone)
    for start in range(1_262_304_000, 1_420_070_400, 1_800 * 31):
        assert not is_skipped(datetime.fromtimestamp(start, info).replace(tzinfo=None, fold=0), info)
