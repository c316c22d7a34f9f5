"""When work is due: windows, missed times, retries, clocks that are changed."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from donjon.plan.cron import Cron
from donjon.plan.model import Rules, Schedule
from donjon.scheduling.due import History, Reason, due, due_at

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3600


def berlin(text: str, fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp())


def told(moment: int | None) -> str:
    assert moment is not None
    return datetime.fromtimestamp(moment, BERLIN).strftime("%Y-%m-%d %H:%M %Z")


def rules(retries: int | None = None, **schedule: object) -> Rules:
    wanted = Schedule.model_validate({"time_zone": "Europe/Berlin", **schedule})
    return Rules(schedule=wanted, retries=retries)


def starts(wanted: Rules, begin: str, count: int) -> list[str]:
    """When it starts, if it always starts in time and takes no time."""
    found, last = [], berlin(begin)
    for _ in range(count):
        at = due_at(wanted, "web", History(last_started_at=last), last)
        found.append(told(at))
        assert at is not None
        last = at
    return found


def test_without_a_schedule_nothing_is_ever_due() -> None:
    assert due_at(Rules(), "web", History(), 0) is None


def test_what_never_ran_is_due_at_once_or_when_the_window_opens() -> None:
    noon = berlin("2026-06-01 12:00")
    assert due_at(rules(cron="0 2 * * *"), "web", History(), noon) == noon
    windowed = rules(cron="0 2 * * *", window={"start": "22:00", "end": "06:00"})
    assert told(due_at(windowed, "web", History(), noon)) == "2026-06-01 22:00 CEST"


@pytest.mark.parametrize(
    ("cron", "first"),
    [
        ("30 2 * * 1-5", "2026-06-01 02:30 CEST"),  # the Monday after that Saturday
        ("30 2 * * 0", "2026-05-31 02:30 CEST"),  # cron counts from Sunday
        ("30 2 * * 7", "2026-05-31 02:30 CEST"),
        ("30 2 * * sun,Mon", "2026-05-31 02:30 CEST"),
        ("30 2 * * 5-7", "2026-05-31 02:30 CEST"),
        ("0 0 13 * fri", "2026-06-05 00:00 CEST"),  # either, as crontab(5) has it
        ("0 0 1 * *", "2026-06-01 00:00 CEST"),
        ("0 0 1 jan *", "2027-01-01 00:00 CET"),
        ("0 0 29 2 *", "2028-02-29 00:00 CET"),
        ("*/20 * * * *", "2026-05-30 12:20 CEST"),
        ("5/20 * * * *", "2026-05-30 12:05 CEST"),
        ("0-5/30 */23 */31 jan-mar/9 */7", "2034-01-01 00:00 CET"),  # steps beyond their ranges
        ("*/1000 23 * * *", "2026-05-30 23:00 CEST"),
    ],
)
def test_fields_mean_what_cron_means(cron: str, first: str) -> None:
    assert told(Cron.parse(cron).after(berlin("2026-05-30 12:00"), BERLIN)) == first


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "* * * *",
        "* * * * * *",
        "@daily",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "5-1 * * * *",
        "*/0 * * * *",
        "a * * * *",
        "* * last * *",
        "* * * * 1#2",
        "1,,2 * * * *",
        "-1 * * * *",
        "\u0661 * * * *",
        "0 0 * * fri-mon",
        "0 " * 400,
    ],
)
def test_what_is_no_cron_is_refused(cron: str) -> None:
    with pytest.raises(ValueError, match=r"cron|it goes from|is no|range|step"):
        Cron.parse(cron)


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *"])
def test_a_day_that_no_month_has_never_comes(cron: str) -> None:
    assert Cron.parse(cron).after(berlin("2026-05-30 12:00"), BERLIN) is None
    assert due_at(rules(cron=cron), "web", History(last_started_at=0), HOUR) is None


def test_an_hour_that_is_skipped_starts_after_it_and_the_next_day_as_always() -> None:
    assert starts(rules(cron="30 2 * * *"), "2026-03-28 02:30", 2) == [
        "2026-03-29 03:30 CEST",
        "2026-03-30 02:30 CEST",
    ]


def test_an_hour_that_comes_twice_starts_once() -> None:
    assert starts(rules(cron="30 2 * * *"), "2026-10-24 02:30", 2) == [
        "2026-10-25 02:30 CEST",
        "2026-10-26 02:30 CET",
    ]


def test_every_hour_goes_on_through_both() -> None:
    hourly = rules(cron="0 * * * *")
    assert starts(hourly, "2026-10-25 01:00", 3) == [
        "2026-10-25 02:00 CEST",
        "2026-10-25 02:00 CET",
        "2026-10-25 03:00 CET",
    ]
    assert starts(hourly, "2026-03-29 01:00", 2) == ["2026-03-29 03:00 CEST", "2026-03-29 04:00 CEST"]


@pytest.mark.parametrize(
    ("start", "end", "first"),
    [
        ("22:00", "06:00", "03:30"),
        ("02:00", "03:00", "03:30"),  # the whole window is skipped
        ("01:30", "03:00", "03:30"),
        ("02:15", "02:45", "03:30"),
        ("02:30", "04:00", "03:30"),
    ],
)
def test_a_window_that_the_clocks_skip_opens_after_it(start: str, end: str, first: str) -> None:
    windowed = rules(cron="30 2 * * *", window={"start": start, "end": end})
    assert starts(windowed, "2026-03-28 02:30", 2) == [f"2026-03-29 {first} CEST", "2026-03-30 02:30 CEST"]


def test_work_outside_the_window_waits_until_it_opens() -> None:
    windowed = rules(every="1h", window={"start": "22:00", "end": "00:30"})
    assert starts(windowed, "2026-06-01 12:00", 4) == [
        "2026-06-01 22:00 CEST",
        "2026-06-01 23:00 CEST",
        "2026-06-02 00:00 CEST",
        "2026-06-02 22:00 CEST",
    ]


def test_after_a_sleep_one_run_makes_up_for_many() -> None:
    daily, now = rules(cron="0 2 * * *"), berlin("2026-06-10 09:00")
    asleep = History(last_started_at=berlin("2026-06-01 02:00"))
    at = due_at(daily, "web", asleep, now)
    assert at is not None
    assert at <= now
    assert told(due_at(daily, "web", History(last_started_at=now), now)) == "2026-06-11 02:00 CEST"


def test_what_was_missed_in_its_window_waits_for_the_next_one() -> None:
    windowed = rules(cron="0 2 * * *", window={"start": "01:00", "end": "05:00"})
    asleep = History(last_started_at=berlin("2026-06-01 02:00"))
    assert told(due_at(windowed, "web", asleep, berlin("2026-06-10 09:00"))) == "2026-06-11 01:00 CEST"
    before = berlin("2026-06-10 04:59")
    at = due_at(windowed, "web", asleep, before)
    assert at is not None
    assert at <= before


def test_a_manual_run_counts_as_one_of_the_schedule() -> None:
    daily = rules(cron="0 2 * * *", jitter="1h")
    by_hand = berlin("2026-06-02 02:00") + 1
    at = due_at(daily, "web", History(last_started_at=by_hand), by_hand)
    assert at is not None
    assert berlin("2026-06-03 02:00") <= at <= berlin("2026-06-03 03:00")


def test_jitter_differs_between_workloads_and_days_and_never_changes() -> None:
    daily = rules(cron="0 2 * * *", jitter="1h")
    noon = berlin("2026-06-01 12:00")
    last = History(last_started_at=noon)
    found = {name: due_at(daily, name, last, noon) for name in map(str, range(200))}
    assert found == {name: due_at(daily, name, last, berlin("2026-06-01 23:00")) for name in found}
    offsets = [at - berlin("2026-06-02 02:00") for at in found.values() if at is not None]
    assert len(offsets) == 200
    assert all(0 <= offset <= HOUR for offset in offsets)
    assert min(offsets) < 600
    assert max(offsets) > 3000
    assert len(set(offsets)) > 150
    tomorrow = berlin("2026-06-02 12:00")
    later = due_at(daily, "1", History(last_started_at=tomorrow), tomorrow)
    assert found["1"] is not None
    assert later is not None
    assert later - found["1"] != 24 * HOUR


def test_jitter_never_leads_out_of_the_window() -> None:
    windowed = rules(cron="50 5 * * *", jitter="4h", window={"start": "22:00", "end": "06:00"})
    noon = berlin("2026-06-01 12:00")
    for name in map(str, range(100)):
        at = due_at(windowed, name, History(last_started_at=noon), noon)
        assert at is not None
        assert at < berlin("2026-06-02 06:00")


def test_a_failure_is_tried_again_ever_later_and_not_for_ever() -> None:
    daily, start = rules(cron="0 2 * * *", retries=3), berlin("2026-06-02 02:00")
    waits = []
    for failures in range(1, 9):
        ended = start + 100
        found = due(daily, "web", History(start, None, ended, failures), ended)
        assert found is not None
        waits.append((found.reason, found.at - ended if found.reason is Reason.RETRY else None))
    tries = [(Reason.RETRY, 60), (Reason.RETRY, 240), (Reason.RETRY, 960), (Reason.SCHEDULED, None)]
    assert waits == tries * 2


@pytest.mark.parametrize("history", [{"can_retry": False}, {"failures": 0}])
def test_what_cannot_succeed_is_not_tried_again(history: dict[str, object]) -> None:
    seen = {"last_started_at": 100, "last_ended_at": 160, "failures": 1} | history
    found = due(rules(every="1h"), "web", History(**seen), 200)  # type: ignore[arg-type]
    assert found is not None
    assert found.reason is Reason.SCHEDULED


def test_no_retry_if_the_plan_wants_none_and_none_outside_the_window() -> None:
    failed = History(100, None, 200, 1)
    found = due(rules(0, every="1h"), "web", failed, 300)
    assert found is not None
    assert (found.reason, found.at) == (Reason.SCHEDULED, 100 + HOUR)
    ended = berlin("2026-06-02 05:59")
    windowed = rules(cron="0 2 * * *", window={"start": "22:00", "end": "06:00"})
    failed = History(berlin("2026-06-02 02:00"), None, ended, 1)
    assert told(due_at(windowed, "web", failed, ended)) == "2026-06-02 22:00 CEST"


def test_the_next_regular_start_comes_before_a_later_retry() -> None:
    failed = History(last_started_at=0, last_ended_at=0, failures=9)
    found = due(rules(10, every="10m"), "web", failed, 0)
    assert found is not None
    assert (found.reason, found.at) == (Reason.SCHEDULED, 600)


def test_a_start_in_the_far_future_was_that_of_a_wrong_clock() -> None:
    now = berlin("2026-06-02 12:00")
    assert due_at(rules(cron="0 2 * * *"), "web", History(last_started_at=now + 10**8), now) == now
    step = due_at(rules(cron="0 2 * * *"), "web", History(last_started_at=now + 2), now)
    assert told(step) == "2026-06-03 02:00 CEST"
