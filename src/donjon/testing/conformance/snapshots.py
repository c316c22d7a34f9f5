"""What every adapter for snapshots must do. An adapter passes if subclasses of these classes do.

class TestMine(SnapshotTests):
    @pytest.fixture
    def ground(self) -> Ground:
        ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from donjon.core.errors import (
    DonjonError,
    LocksUnsupported,
    ObjectLocked,
    PermissionMissing,
    Refused,
    SnapshotFailed,
    UsageError,
)
from donjon.snapshots.base import Snapshot, Snapshots, SnapshotState
from donjon.snapshots.expiry import expired, is_whole
from donjon.snapshots.patience import Patience
from donjon.testing.front import Answer, Front, HangUp, Request

_DAY = 86_400
#: More than any adapter needs to take two snapshots.
_MOST_REQUESTS = 60


class QuickTime:
    """A clock for waiting that passes at once. ``patience`` is what adapters under test take."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.patience = Patience(self._sleep, lambda: self.seconds, lambda: 0.5, attempts=4)

    def _sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Ground:
    """What the tests need beside the adapter. Adapters' tests make one for each test."""

    snapshots: Snapshots
    #: Whether the provider can keep everybody from deleting.
    locks = False

    def make_volume(self) -> str:
        """A new volume; its id."""
        raise NotImplementedError

    def remove_volume(self, volume: str) -> None:
        """Delete a volume."""
        raise NotImplementedError

    def make_foreign(self, volume: str) -> str:
        """A snapshot that Donjon did not make; its id."""
        raise NotImplementedError

    def exists(self, snapshot_id: str) -> bool:
        """Whether the provider has a snapshot, looked at from outside."""
        raise NotImplementedError

    def now(self) -> int:
        """The provider's time."""
        raise NotImplementedError

    def advance(self, seconds: int) -> None:
        """Let the provider's time pass. Only where there are locks."""
        raise NotImplementedError


class CloudGround(Ground):
    """The same for a provider behind a network."""

    #: What the adapter's requests go through.
    front: Front
    #: Where copies can be made, if there are copies.
    elsewhere: Snapshots | None = None
    #: The key that copies are encrypted with there.
    key = ""

    def hold(self) -> None:
        """Let snapshots that are taken from now on stay pending."""
        raise NotImplementedError

    def fail(self, snapshot_id: str) -> None:
        """Let a pending snapshot fail."""
        raise NotImplementedError

    def vanish(self, snapshot_id: str) -> None:
        """Delete a snapshot behind the adapter's back."""
        raise NotImplementedError

    def deny(self, action: str) -> str:
        """Take away the permission to create, list or delete; its name."""
        raise NotImplementedError

    def allow(self) -> None:
        """Give all permissions back."""
        raise NotImplementedError

    def lose_reply(self) -> None:
        """Let the next creation be carried out and its answer be lost."""
        raise NotImplementedError

    def throttle(self, times: int) -> None:
        """Ask to slow down in answer to the next requests."""
        raise NotImplementedError


class SnapshotTests:
    """The contract of ``Snapshots``, checked from outside."""

    @pytest.fixture
    def ground(self) -> Any:
        raise NotImplementedError

    def test_a_set_is_taken_listed_and_whole(self, ground: Ground) -> None:
        volumes = [ground.make_volume(), ground.make_volume()]
        made = ground.snapshots.create(volumes, workload="Web_1.x", set_id="set-1")
        done = ground.snapshots.wait(made, timeout_s=600)
        assert [one.volume_id for one in done] == volumes
        assert {one.state for one in done} == {SnapshotState.COMPLETE}
        assert {(one.workload, one.set_id, one.set_size) for one in done} == {("Web_1.x", "set-1", 2)}
        assert {(one.account, one.region) for one in done} == {
            (ground.snapshots.account, ground.snapshots.region)
        }
        assert all(abs(one.created_at - ground.now()) < 600 for one in done)
        assert all(one.size_bytes >= 0 for one in done)
        listed = list(ground.snapshots.list("Web_1.x"))
        assert sorted(listed, key=_id) == sorted(done, key=_id)
        assert is_whole(listed)
        assert set(listed) <= set(ground.snapshots.list())

    def test_a_listing_of_one_workload_has_no_other(self, ground: Ground) -> None:
        volume = ground.make_volume()
        ground.snapshots.create([volume], workload="web", set_id="s1")
        ground.snapshots.create([volume], workload="web2", set_id="s1")
        assert [one.workload for one in ground.snapshots.list("web")] == ["web"]
        assert {one.workload for one in ground.snapshots.list()} >= {"web", "web2"}
        assert list(ground.snapshots.list("nobody")) == []

    def test_creating_again_takes_none_again(self, ground: Ground) -> None:
        volumes = [ground.make_volume(), ground.make_volume()]
        first = ground.snapshots.create(volumes, workload="again", set_id="s1")
        second = ground.snapshots.create(volumes, workload="again", set_id="s1")
        assert [one.snapshot_id for one in second] == [one.snapshot_id for one in first]
        assert len(list(ground.snapshots.list("again"))) == 2

    def test_a_volume_that_is_gone_leaves_none_of_its_set(self, ground: Ground) -> None:
        good, gone = ground.make_volume(), ground.make_volume()
        ground.remove_volume(gone)
        with pytest.raises(SnapshotFailed) as caught:
            ground.snapshots.create([good, gone], workload="half", set_id="s1")
        assert caught.value.hint
        assert list(ground.snapshots.list("half")) == []

    @pytest.mark.parametrize(
        ("workload", "set_id"), [("a/b", "s1"), ("", "s1"), ("web", "../x"), ("web", "")]
    )
    def test_names_that_are_none_are_refused(self, ground: Ground, workload: str, set_id: str) -> None:
        with pytest.raises(UsageError):
            ground.snapshots.create([ground.make_volume()], workload=workload, set_id=set_id)

    def test_deleting_twice_is_deleting_once(self, ground: Ground) -> None:
        made = ground.snapshots.create([ground.make_volume()], workload="gone", set_id="s1")
        (done,) = ground.snapshots.wait(made, timeout_s=600)
        assert ground.exists(done.snapshot_id)
        ground.snapshots.delete(done)
        assert not ground.exists(done.snapshot_id)
        ground.snapshots.delete(done)
        assert list(ground.snapshots.list("gone")) == []

    def test_what_donjon_did_not_make_is_neither_listed_nor_deleted(self, ground: Ground) -> None:
        volume = ground.make_volume()
        (one,) = ground.snapshots.create([volume], workload="mine", set_id="s1")
        foreign = ground.make_foreign(volume)
        assert foreign not in {one.snapshot_id for one in ground.snapshots.list()}
        with pytest.raises(Refused) as caught:
            ground.snapshots.delete(replace(one, snapshot_id=foreign))
        assert caught.value.hint
        assert ground.exists(foreign)

    @pytest.mark.parametrize("lie", [{"workload": "other"}, {"set_id": "other"}])
    def test_one_with_other_marks_is_not_deleted(self, ground: Ground, lie: dict[str, Any]) -> None:
        (one,) = ground.snapshots.create([ground.make_volume()], workload="marks", set_id="s1")
        with pytest.raises(Refused):
            ground.snapshots.delete(replace(one, **lie))
        assert ground.exists(one.snapshot_id)

    def test_what_is_locked_stays_until_its_lock_has_ended(self, ground: Ground) -> None:
        made = ground.snapshots.create([ground.make_volume()], workload="kept", set_id="s1")
        (one,) = ground.snapshots.wait(made, timeout_s=600)
        until = ground.now() + 10 * _DAY
        if not ground.locks:
            with pytest.raises(LocksUnsupported) as unable:
                ground.snapshots.lock(one, retain_until=until)
            assert unable.value.hint
            return
        locked = ground.snapshots.lock(one, retain_until=until)
        assert until <= locked.locked_until <= until + _DAY
        assert ground.snapshots.lock(one, retain_until=until - 5 * _DAY).locked_until == locked.locked_until
        (listed,) = ground.snapshots.list("kept")
        assert listed.locked_until == locked.locked_until
        with pytest.raises(ObjectLocked) as caught:
            ground.snapshots.delete(one)
        assert caught.value.retain_until == locked.locked_until
        assert ground.exists(one.snapshot_id)
        longer = ground.snapshots.lock(one, retain_until=until + 10 * _DAY)
        assert longer.locked_until >= until + 10 * _DAY
        ground.advance(12 * _DAY)
        with pytest.raises(ObjectLocked):
            ground.snapshots.delete(one)
        ground.advance(10 * _DAY)
        assert next(iter(ground.snapshots.list("kept"))).locked_until == 0
        ground.snapshots.delete(one)
        assert not ground.exists(one.snapshot_id)


class CloudSnapshotTests(SnapshotTests):
    """What more holds of a provider behind a network."""

    def test_snapshots_outlive_their_volume(self, ground: Ground) -> None:
        volume = ground.make_volume()
        made = ground.snapshots.create([volume], workload="orphan", set_id="s1")
        (done,) = ground.snapshots.wait(made, timeout_s=600)
        ground.remove_volume(volume)
        assert [one.volume_id for one in ground.snapshots.list("orphan")] == [volume]
        ground.snapshots.delete(done)
        assert not ground.exists(done.snapshot_id)

    def test_a_lost_answer_takes_nothing_twice(self, ground: CloudGround) -> None:
        volumes = [ground.make_volume(), ground.make_volume()]
        ground.lose_reply()
        made = ground.snapshots.create(volumes, workload="lost", set_id="s1")
        listed = list(ground.snapshots.list("lost"))
        assert sorted(map(_id, listed)) == sorted(map(_id, made))
        assert len(made) == 2

    @pytest.mark.parametrize("carried_out", [True, False])
    def test_whatever_breaks_off_taking_a_set_it_can_be_repeated(
        self, ground: CloudGround, carried_out: bool
    ) -> None:
        """The network goes for good at one request after the other, and comes back for the next try."""
        for step in range(1, _MOST_REQUESTS):
            volumes, set_id = [ground.make_volume(), ground.make_volume()], f"s{step}"
            ground.front.trouble = _gone_from(step, carried_out)
            failures: list[SnapshotFailed] = []
            try:
                ground.snapshots.create(volumes, workload="broken", set_id=set_id)
            except SnapshotFailed as error:
                failures.append(error)
            finally:
                ground.front.trouble = None
            assert all(error.retryable for error in failures)
            made = ground.snapshots.create(volumes, workload="broken", set_id=set_id)
            found = [one for one in ground.snapshots.list("broken") if one.set_id == set_id]
            assert sorted(map(_id, found)) == sorted(map(_id, made))
            assert is_whole(ground.snapshots.wait(made, timeout_s=600))
            if not failures:
                return
        pytest.fail("it never came to its end")

    def test_what_asks_to_slow_down_is_asked_again(self, ground: CloudGround) -> None:
        volume = ground.make_volume()
        ground.throttle(3)
        (one,) = ground.snapshots.create([volume], workload="slow", set_id="s1")
        ground.throttle(2)
        assert [found.snapshot_id for found in ground.snapshots.list("slow")] == [one.snapshot_id]
        ground.throttle(2)
        ground.snapshots.delete(one)
        assert not ground.exists(one.snapshot_id)

    def test_what_never_stops_to_ask_to_slow_down_ends_and_may_be_tried_later(
        self, ground: CloudGround
    ) -> None:
        volume = ground.make_volume()
        ground.throttle(1000)
        with pytest.raises(SnapshotFailed) as caught:
            ground.snapshots.create([volume], workload="never", set_id="s1")
        assert caught.value.retryable
        ground.throttle(0)
        assert list(ground.snapshots.list("never")) == []

    @pytest.mark.parametrize("action", ["create", "list", "delete"])
    def test_a_missing_permission_is_named_and_nothing_is_left(
        self, ground: CloudGround, action: str
    ) -> None:
        volume = ground.make_volume()
        made = ground.snapshots.create([volume], workload="denied", set_id="s0")
        ground.snapshots.wait(made, timeout_s=600)
        permission = ground.deny(action)
        calls: dict[str, Callable[[], object]] = {
            "create": lambda: ground.snapshots.create([volume], workload="denied", set_id="s1"),
            "list": lambda: list(ground.snapshots.list("denied")),
            "delete": lambda: ground.snapshots.delete(made[0]),
        }
        with pytest.raises(PermissionMissing) as caught:
            calls[action]()
        assert permission in caught.value.message
        assert permission in caught.value.hint
        ground.allow()
        assert [one.snapshot_id for one in ground.snapshots.list("denied")] == [made[0].snapshot_id]

    def test_one_that_fails_ends_the_wait_and_is_taken_anew(self, ground: CloudGround) -> None:
        volume = ground.make_volume()
        ground.hold()
        (one,) = ground.snapshots.create([volume], workload="fails", set_id="s1")
        assert one.state is SnapshotState.PENDING
        ground.fail(one.snapshot_id)
        with pytest.raises(SnapshotFailed, match="could not take") as caught:
            ground.snapshots.wait([one], timeout_s=600)
        assert caught.value.retryable
        assert [found.state for found in ground.snapshots.list("fails")] == [SnapshotState.FAILED]
        (again,) = ground.snapshots.create([volume], workload="fails", set_id="s1")
        assert again.state is not SnapshotState.FAILED
        assert not is_whole([one])

    def test_one_that_hangs_ends_the_wait_and_stays(self, ground: CloudGround) -> None:
        ground.hold()
        made = ground.snapshots.create([ground.make_volume()], workload="hangs", set_id="s1")
        with pytest.raises(SnapshotFailed, match="not complete") as caught:
            ground.snapshots.wait(made, timeout_s=300)
        assert caught.value.retryable
        found = list(ground.snapshots.list("hangs"))
        assert [one.state for one in found] == [SnapshotState.PENDING]
        assert expired(found, keep=1, now=ground.now()) == []

    def test_one_that_vanishes_ends_the_wait(self, ground: CloudGround) -> None:
        ground.hold()
        (one,) = ground.snapshots.create([ground.make_volume()], workload="lost", set_id="s2")
        ground.vanish(one.snapshot_id)
        with pytest.raises(SnapshotFailed, match="vanished") as caught:
            ground.snapshots.wait([one], timeout_s=7200)
        assert caught.value.retryable
        assert list(ground.snapshots.list("lost")) == []

    def test_a_copy_elsewhere_has_the_same_marks_and_a_life_of_its_own(self, ground: CloudGround) -> None:
        made = ground.snapshots.create([ground.make_volume()], workload="copied", set_id="s1")
        (one,) = ground.snapshots.wait(made, timeout_s=600)
        if ground.elsewhere is None:
            with pytest.raises(Refused) as caught:
                ground.snapshots.copy(one)
            assert caught.value.hint
            return
        copy = ground.elsewhere.copy(one, key=ground.key)
        assert ground.elsewhere.copy(one, key=ground.key).snapshot_id == copy.snapshot_id
        (done,) = ground.elsewhere.wait([copy], timeout_s=600)
        assert done.origin == one.snapshot_id
        assert (done.workload, done.set_id, done.set_size) == (one.workload, one.set_id, one.set_size)
        assert (done.volume_id, done.moment) == (one.volume_id, one.moment)
        assert (done.region, done.key) == (ground.elsewhere.region, ground.key)
        assert is_whole(list(ground.elsewhere.list("copied")))
        ground.snapshots.delete(one)
        assert [found.snapshot_id for found in ground.elsewhere.list("copied")] == [done.snapshot_id]
        assert list(ground.snapshots.list("copied")) == []

    def test_what_is_pending_is_not_copied(self, ground: CloudGround) -> None:
        ground.hold()
        (one,) = ground.snapshots.create([ground.make_volume()], workload="early", set_id="s1")
        with pytest.raises(DonjonError) as caught:
            (ground.elsewhere or ground.snapshots).copy(one)
        assert isinstance(caught.value, Refused)


def _gone_from(step: int, carried_out: bool) -> Callable[[Request, Callable[[Request], Answer]], Answer]:
    """A network that goes at a request: after it was ``carried_out``, or before."""
    seen = 0

    def trouble(request: Request, carry_out: Callable[[Request], Answer]) -> Answer:
        nonlocal seen
        seen += 1
        if seen < step:
            return carry_out(request)
        if seen == step and carried_out:
            carry_out(request)
        raise HangUp

    return trouble


def _id(snapshot: Snapshot) -> str:
    return snapshot.snapshot_id
