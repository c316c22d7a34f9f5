"""The verdict on any copies: more of them never make it worse, and sharing fate never makes it better."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations_with_replacement, product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.plan.copies import (
    Check,
    Copy,
    CopyKind,
    Depth,
    Facts,
    Key,
    LockMode,
    Medium,
    Objectives,
    Place,
)
from donjon.plan.fate import separate, shared_fate
from donjon.plan.placement import Rule, Verdict, judge

NOW = 1_800_000_000
DAY = 86_400
WANTED = Objectives(rpo_s=DAY, rto_s=None, verify_every_s=7 * DAY, data_percent=1.0, kept_s=30 * DAY)
HOME = Place("home", "aws", "1", "r1", frozenset({"root of 1"}))
PRODUCTION = Copy(CopyKind.PRODUCTION, "production", "", HOME, Medium.VOLUME, "s3://b", point_time=NOW - 60)


def met(verdict: Verdict) -> int:
    return sum(not cell.is_red for cell in verdict.cells)


def facts(*copies: Copy) -> Facts:
    return Facts("web", NOW, WANTED, (PRODUCTION, *copies))


places = st.one_of(
    st.none(),
    st.builds(
        Place,
        st.just("site"),
        st.sampled_from(["aws", "on-premises"]),
        st.sampled_from("123"),
        st.sampled_from(["r1", "r2", "r3"]),
        st.frozensets(st.sampled_from(["ann", "bob", "root of 1"]), max_size=2),
    ),
)
keys = st.lists(
    st.builds(Key, st.sampled_from(["k1", "k2", "kit"]), st.sampled_from(["aws:1", "aws:2", "kit"])),
    max_size=2,
).map(tuple)
checks = st.one_of(
    st.none(),
    st.builds(
        Check,
        st.sampled_from([NOW - DAY, NOW - 8 * DAY]),
        st.sampled_from(Depth),
        st.booleans(),
        st.just("evidence"),
        st.sampled_from([0.0, 1.0, 100.0]),
    ),
)
copies = st.builds(
    Copy,
    kind=st.sampled_from([CopyKind.SNAPSHOT, CopyKind.BACKUP]),
    name=st.sampled_from([f"copy{number}" for number in range(100)]),
    address=st.just("address"),
    place=places,
    medium=st.sampled_from(Medium),
    storage=st.sampled_from(["", "", "s3://a", "s3://b"]),
    point=st.just("p"),
    point_time=st.sampled_from([None, NOW - 60, NOW - DAY - 1, NOW - 3 * DAY, NOW + DAY]),
    locked_until=st.sampled_from([0, NOW, NOW + DAY, NOW + 60 * DAY]),
    lock_mode=st.sampled_from(LockMode),
    kept_s=st.sampled_from([0, 20 * DAY]),
    keys=keys,
    checked=checks,
    unreachable=st.sampled_from(["", "", "", "refused"]),
    broken=st.sampled_from(["", "", "", "a pack is missing"]),
    tampered=st.sampled_from(["", "", "", "hidden"]),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(copies, max_size=5), copies)
def test_a_further_copy_never_makes_it_worse(some: list[Copy], one: Copy) -> None:
    before, after = judge(facts(*some)), judge(facts(*some, one))
    assert met(after) >= met(before)
    assert after.is_green or not before.is_green


def _merged(place: Place, field: str, one: str, other: str) -> Place:
    changed: dict[str, Any] = {field: other}
    return replace(place, **changed) if getattr(place, field) == one else place


@settings(max_examples=300, deadline=None)
@given(st.lists(copies, min_size=2, max_size=5), st.data())
def test_sharing_fate_never_makes_it_better(some: list[Copy], data: st.DataObject) -> None:
    """Two copies get one more administrator in common; or one account, region or owner becomes another."""
    i, k = data.draw(st.sampled_from([(i, k) for i in range(len(some)) for k in range(i)]))
    before = judge(facts(*some))
    shared = [
        replace(copy, place=replace(copy.place, administrators=copy.place.administrators | {"mallory"}))
        if number in {i, k} and copy.place
        else copy
        for number, copy in enumerate(some)
    ]
    assert met(judge(facts(*shared))) <= met(before)
    for field, one, other in (("account", "3", "2"), ("region", "r3", "r2"), ("account", "2", "1")):
        merged = [
            replace(copy, place=_merged(copy.place, field, one, other)) if copy.place else copy
            for copy in some
        ]
        if field == "account":
            owners = {f"aws:{one}": f"aws:{other}"}
            merged = [
                replace(c, keys=tuple(Key(key.key_id, owners.get(key.owner, key.owner)) for key in c.keys))
                for c in merged
            ]
        assert met(judge(facts(*merged))) <= met(before)


@settings(max_examples=200, deadline=None)
@given(st.lists(copies, max_size=5), st.data())
def test_what_is_lost_or_weakened_never_makes_it_better(some: list[Copy], data: st.DataObject) -> None:
    before = judge(facts(*some))
    worse: dict[str, Any] = {
        "unreachable": "refused",
        "broken": "gone",
        "tampered": "hidden",
        "checked": None,
        "lock_mode": LockMode.GOVERNANCE,
        "locked_until": 0,
        "place": None,
        "point_time": None,
    }
    name = data.draw(st.sampled_from(sorted(worse)))
    for number, copy in enumerate(some):
        weakened = [*some[:number], replace(copy, **{name: worse[name]}), *some[number + 1 :]]
        assert met(judge(facts(*weakened))) <= met(before)


@settings(max_examples=200, deadline=None)
@given(st.lists(copies, max_size=6))
def test_the_number_of_separate_copies_is_that_of_the_largest_set_without_shared_fate(
    some: list[Copy],
) -> None:
    best = 0
    for chosen in product([False, True], repeat=len(some)):
        taken = [copy for copy, wanted in zip(some, chosen, strict=True) if wanted]
        apart = all(not shared_fate(a, b) for n, a in enumerate(taken) for b in taken[:n])
        best = max(best, len(taken) if apart else 0)
    assert separate(some) == best


@settings(max_examples=200, deadline=None)
@given(st.lists(copies, max_size=5))
def test_every_red_cell_has_a_reason_and_a_remedy(some: list[Copy]) -> None:
    verdict = judge(facts(*some))
    for cell in verdict.cells:
        assert cell.reason
        assert bool(cell.remedy) == cell.is_red


# -- all of a small world --------------------------------------------------------------------------

_GOOD = Check(NOW - DAY, Depth.DATA, True, "evidence", 1.0)
_KINDS = (CopyKind.SNAPSHOT, CopyKind.BACKUP)


def _world() -> list[Copy]:
    """Every copy of a world with two accounts, two regions, and a yes or no of all else."""
    return [
        Copy(
            kind,
            f"{kind}{account}{region}{is_locked}{is_verified}",
            "address",
            Place("site", "aws", account, region),
            Medium.VOLUME if kind is CopyKind.SNAPSHOT else Medium.OBJECT_STORAGE,
            point="p",
            point_time=NOW - 60,
            locked_until=NOW + 31 * DAY,
            lock_mode=LockMode.COMPLIANCE if is_locked else LockMode.GOVERNANCE,
            checked=_GOOD if is_verified else None,
        )
        for kind, account, region, is_locked, is_verified in product(
            _KINDS, "12", ("r1", "r2"), (False, True), (False, True)
        )
    ]


def _obeys(chosen: list[Copy]) -> bool:
    """The rule in the words of the documentation, for copies that are all to be counted."""

    def apart(one: Copy, other: Copy) -> bool:
        assert one.place
        assert other.place
        return one.place.account != other.place.account and one.place.region != other.place.region

    return (
        any(apart(one, other) for one in chosen for other in chosen)
        and len({Medium.VOLUME, *(copy.medium for copy in chosen)}) >= 2
        and any(apart(PRODUCTION, copy) for copy in chosen)
        and any(copy.lock_mode is LockMode.COMPLIANCE for copy in chosen)
        and any(copy.kind is CopyKind.BACKUP for copy in chosen)
        and all(copy.checked for copy in chosen)
    )


def test_in_a_small_world_the_verdict_is_what_the_rule_says() -> None:
    world = _world()
    green = 0
    for size in range(4):
        for some in combinations_with_replacement(world, size):
            verdict = judge(facts(*some))
            wanted = any(
                _obeys([copy for copy, is_taken in zip(some, taken, strict=True) if is_taken])
                for taken in product([False, True], repeat=size)
            )
            assert verdict.is_green == wanted, some
            green += wanted
            if wanted:
                assert all(not verdict.cell(rule).is_red for rule in Rule)
    assert green > 100
