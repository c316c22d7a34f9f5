"""Which snapshots go, how their marks are read, and how long is waited for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donjon.core.errors import SnapshotFailed, StoreUnavailable, UsageError
from donjon.snapshots import azure_calls, ebs_calls, gce_calls
from donjon.snapshots.base import Snapshot, SnapshotState
from donjon.snapshots.expiry import expired, is_whole, last_good, sets
from donjon.snapshots.marks import Marks, new_set_id
from donjon.snapshots.patience import Patience

NOW = 1_800_000_000
_STATES = list(SnapshotState)


def _snapshot(set_id: str, created_at: int, **changes: object) -> Snapshot:
    one = Snapshot(
        f"snap-{set_id}", "vol-1", "web", set_id, created_at, 1 << 30, SnapshotState.COMPLETE, "1", "eu-1"
    )
    return replace(one, **changes)  # type: ignore[arg-type]


_SNAPSHOTS = st.lists(
    st.builds(
        Snapshot,
        snapshot_id=st.uuids().map(str),
        volume_id=st.sampled_from(["vol-1", "vol-2"]),
        workload=st.sampled_from(["web", "db"]),
        set_id=st.sampled_from(["a", "b", "c", "d", "e"]),
        created_at=st.integers(0, 100),
        size_bytes=st.just(1),
        state=st.sampled_from(_STATES),
        account=st.just("1"),
        region=st.just("eu-1"),
        set_size=st.integers(1, 2),
        locked_until=st.sampled_from([0, 50, 150]),
    ),
    unique_by=lambda one: one.snapshot_id,
)


@given(_SNAPSHOTS, st.integers(0, 4), st.integers(0, 200))
def test_the_last_good_set_stays_and_so_does_what_is_newer_or_locked(
    snapshots: list[Snapshot], keep: int, now: int
) -> None:
    going = expired(snapshots, keep=keep, now=now)
    good = last_good(snapshots)
    assert not set(going) & set(good)
    assert all(one.locked_until <= now for one in going)
    for workload in {one.workload for one in snapshots}:
        mine = [members for members in sets(snapshots) if members[0].workload == workload]
        whole = [members for members in mine if is_whole(members)]
        kept = [members for members in whole if not set(members) & set(going)]
        assert len(kept) >= min(max(keep, 1), len(whole))
        until = mine.index(whole[0]) if whole else len(mine)
        assert not {one for members in mine[:until] for one in members} & set(going)
    left = [one for one in snapshots if one not in going]
    assert last_good(left) == good
    assert expired(left, keep=keep, now=now) == []


def test_a_set_of_which_a_member_vanished_is_not_whole() -> None:
    old = [
        _snapshot("a", 1, snapshot_id="1", set_size=2),
        _snapshot("a", 1, snapshot_id="2", volume_id="vol-2", set_size=2),
    ]
    newer = [_snapshot("b", 2, set_size=2)]
    assert last_good(old + newer) == old
    assert expired(old + newer, keep=1, now=NOW) == []


def test_two_snapshots_of_one_volume_make_no_set_of_two_volumes() -> None:
    twice = [_snapshot("a", 1, snapshot_id=i, set_size=2) for i in ("1", "2")]
    assert not is_whole(twice)


def test_marks_are_read_as_they_were_written() -> None:
    marks = Marks("Web_1.x", new_set_id(NOW, b"\x01\x02\x03\x04"), 3, "i-1", "vol-1", "snap-0")
    assert Marks.of(marks.tags) == marks
    assert marks.set_id == "20270115t080000z-01020304"


@pytest.mark.parametrize(
    "damage",
    [
        {"donjon-workload": ""},
        {"donjon-workload": "../x"},
        {"donjon-set": "a b"},
        {"donjon-set-size": "0"},
        {"donjon-set-size": "-1"},
        {"donjon-set-size": "99999999999"},
    ],
)
def test_marks_that_were_made_up_badly_are_no_marks(damage: dict[str, str]) -> None:
    assert Marks.of(Marks("web", "s1", 1, "", "vol-1").tags | damage) is None


@pytest.mark.parametrize(("workload", "set_id"), [("", "s"), ("a/b", "s"), ("web", ""), ("web", "a_b")])
def test_a_name_that_no_mark_can_hold_is_refused(workload: str, set_id: str) -> None:
    with pytest.raises(UsageError):
        _ = Marks(workload, set_id, 1, "", "vol-1").tags


@pytest.mark.parametrize("adapter", [ebs_calls, azure_calls, gce_calls])
def test_every_permission_that_is_declared_is_in_the_guide(adapter: ModuleType) -> None:
    guide = Path("docs/workloads/snapshots.md").read_text()
    declared = {
        one for operations in adapter.PERMISSIONS.values() for op in operations for one in op.all_permissions
    }
    assert {one for one in declared if f"`{one}`" not in guide} == set()


class Waiting:
    """A clock that sleeping moves, and a provider that says one state after another."""

    def __init__(self, *states: Snapshot | None) -> None:
        self.now = 0.0
        self.states = list(states)
        self.patience = Patience(self._sleep, lambda: self.now, lambda: 0.5)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def look(self, _: Sequence[Snapshot]) -> dict[str, Snapshot]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return {state.snapshot_id: state} if state else {}


PENDING = _snapshot("a", 1, state=SnapshotState.PENDING)


def test_a_snapshot_that_a_listing_misses_once_has_not_vanished() -> None:
    waiting = Waiting(PENDING, None, None, PENDING, _snapshot("a", 1))
    assert waiting.patience.wait([PENDING], waiting.look, 600) == [_snapshot("a", 1)]


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (None, "has vanished"),
        (replace(PENDING, state=SnapshotState.FAILED, detail="no key"), "could not take .*: no key"),
        (PENDING, "not complete after 1 m 00 s"),
    ],
)
def test_a_snapshot_that_vanishes_fails_or_hangs_ends_the_wait(state: Snapshot | None, text: str) -> None:
    waiting = Waiting(state)
    with pytest.raises(SnapshotFailed, match=text) as caught:
        waiting.patience.wait([PENDING], waiting.look, 60)
    assert caught.value.retryable
    assert waiting.now <= 60


def test_a_call_is_tried_again_until_it_has_been_tried_often_enough() -> None:
    waiting, tries = Waiting(None), []

    def attempt() -> None:
        tries.append(1)
        raise StoreUnavailable("slow down")

    with pytest.raises(StoreUnavailable):
        waiting.patience.call(attempt)
    assert len(tries) == 8
