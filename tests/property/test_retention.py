"""Retention keeps what its counts say, and nothing that a writer puts evicts what is not his."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.core.errors import UsageError
from donjon.plan.retention import Candidate, Policy, decide

NOW = 1_800_000_000
HOUR, DAY = 3600, 86_400
SPANS = {"hourly": HOUR, "daily": DAY}

counts = st.integers(0, 5)
policies = st.builds(
    Policy, counts, counts, counts, counts, counts, counts, st.sampled_from([0, HOUR, 3 * DAY])
)


def _points(writer: bytes, times: list[int], workload: str | None = None) -> list[Candidate]:
    """Points of one writer; the sequence goes along with time, as the store's monotone times make it."""
    ordered = enumerate(sorted(times), 1)
    return [
        Candidate(writer + bytes(8) + n.to_bytes(8, "big"), writer, n, time, workload) for n, time in ordered
    ]


def _times(latest: int = NOW) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(NOW - 800 * DAY, latest) | st.integers(NOW - 3 * DAY, latest), max_size=30)


def _kept(policy: Policy, points: list[Candidate]) -> set[bytes]:
    return {decision.candidate.point_id for decision in decide(policy, points, NOW) if decision.stays}


@given(policies, _times(), _times())
def test_no_writer_changes_what_another_one_keeps(policy: Policy, mine: list[int], his: list[int]) -> None:
    own = _points(b"a" * 16, mine)
    alone = _kept(policy, own)
    together = _kept(policy, own + _points(b"b" * 16, his))
    assert {point for point in together if point.startswith(b"a")} == alone


@given(policies, _times(), st.integers(1, 50))
def test_workloads_of_one_writer_are_counted_apart_where_they_are_known(
    policy: Policy, times: list[int], flood: int
) -> None:
    web = _points(b"a" * 16, times, "web")
    other = [
        replace(point, point_id=b"o" + point.point_id)
        for point in _points(b"a" * 16, [NOW] * flood, "database")
    ]
    assert _kept(policy, web) == {p for p in _kept(policy, web + other) if not p.startswith(b"o")}


@given(policies, _times(), st.lists(st.integers(NOW + 1, NOW + 9000 * DAY), min_size=1, max_size=10))
def test_points_from_the_future_stay_and_take_no_place(
    policy: Policy, times: list[int], future: list[int]
) -> None:
    points = _points(b"a" * 16, times + future)
    honest = {point.point_id for point in points if point.time <= NOW}
    kept = _kept(policy, points)
    assert kept - honest == {point.point_id for point in points} - honest
    assert kept & honest == _kept(policy, [point for point in points if point.point_id in honest])


@given(policies, _times(), st.integers(1, 40))
def test_points_that_do_not_count_take_no_place(policy: Policy, times: list[int], flood: int) -> None:
    honest = _points(b"a" * 16, times)
    stolen = [
        replace(point, point_id=b"x" + point.point_id, uncounted="came after the revocation")
        for point in _points(b"a" * 16, [NOW] * flood)
    ]
    assert _kept(policy, honest) == {p for p in _kept(policy, honest + stolen) if not p.startswith(b"x")}


@given(policies, _times(NOW + 10 * DAY), _times(), st.data())
def test_whatever_is_suspect_pushes_no_clean_point_out(
    policy: Policy, mine: list[int], his: list[int], data: st.DataObject
) -> None:
    """What would be kept without the suspect points is kept with them, and so are they, as evidence."""
    points = _points(b"a" * 16, mine) + _points(b"b" * 16, his, "web")
    ids = [point.point_id for point in points]
    marked = data.draw(st.sets(st.sampled_from(ids))) if ids else set()
    without = _kept(policy, [point for point in points if point.point_id not in marked])
    told = [replace(p, uncounted="it is suspect" if p.point_id in marked else "") for p in points]
    assert _kept(policy, told) == without | marked


@given(policies.filter(lambda policy: not policy.keeps_all), _times(), st.integers(1, 200))
def test_a_flood_of_points_takes_one_place_a_span_and_the_newest_ones(
    policy: Policy, times: list[int], flood: int
) -> None:
    """Of older points it evicts what the counts say: one each of the spans, and so many of the last."""
    policy = replace(policy, within_s=0)
    older = [time for time in times if time < NOW - 400 * DAY]
    honest = _points(b"a" * 16, older)
    everything = _points(b"a" * 16, older + [NOW] * flood)
    lost = len(_kept(policy, honest)) - len(_kept(policy, everything) & {p.point_id for p in honest})
    spans = sum(1 for n in (policy.hourly, policy.daily, policy.weekly, policy.monthly, policy.yearly) if n)
    assert lost <= spans + min(flood, policy.last)


@given(policies, _times())
def test_each_rule_keeps_as_many_as_it_says_and_the_newest_of_each_span(
    policy: Policy, times: list[int]
) -> None:
    points = _points(b"a" * 16, times)
    decisions = decide(policy, points, NOW)
    assert [d.candidate for d in decisions] == sorted(points, key=lambda p: (p.time, p.sequence))
    told = Counter(reason for decision in decisions for reason in decision.reasons)
    assert told["last"] == min(policy.last, len(points))
    for name, span_s in SPANS.items():
        newest = {point.time // span_s: point.point_id for point in points}  # the last one of each span wins
        wanted = sorted(newest.items(), reverse=True)[: getattr(policy, name)]
        found = {d.candidate.point_id for d in decisions if name in d.reasons}
        assert found == {point for _, point in wanted}
    for name in ("weekly", "monthly", "yearly"):
        assert told[name] <= getattr(policy, name)


@given(_times(NOW + 10 * DAY))
def test_an_empty_policy_keeps_everything(times: list[int]) -> None:
    assert len(_kept(Policy(), _points(b"a" * 16, times))) == len(times)


@given(policies.filter(lambda policy: not policy.keeps_all), _times().filter(bool))
@settings(max_examples=50)
def test_a_policy_with_any_count_keeps_the_newest_point(policy: Policy, times: list[int]) -> None:
    points = _points(b"a" * 16, times)
    assert points[-1].point_id in _kept(policy, points)


def test_within_is_counted_from_the_newest_point_so_that_silence_evicts_nothing() -> None:
    old = _points(b"a" * 16, [NOW - 900 * DAY, NOW - 895 * DAY, NOW - 894 * DAY])
    kept = _kept(Policy(within_s=2 * DAY), old)
    assert kept == {old[1].point_id, old[2].point_id}


@pytest.mark.parametrize("policy", [{"last": -1}, {"daily": 10**7}, {"within_s": -5}])
def test_impossible_counts_are_refused(policy: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="counts"):
        Policy(**policy)
