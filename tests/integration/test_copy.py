"""Copies of a vault: complete, in an order that bears crashes, and of nothing that is damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from donjon.core.errors import DonjonError, Interrupted
from donjon.core.units import MIB
from donjon.format import names
from donjon.format.pack import PackKind
from donjon.repository.cache import Cache
from donjon.repository.packer import PACK_BYTES
from donjon.stores.base import ObjectInfo, ObjectStore
from donjon.stores.memory import MemoryStore
from donjon.stores.retry import RetryingStore
from donjon.stores.wrapper import StoreWrapper
from donjon.testing.faulty import Crash, Fault, FaultyStore
from tests.integration.copying import Copying, Interposed, contents
from tests.integration.engine import DAY, Host
from tests.integration.witnesses import Watched

FAULTS = [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.REPLY_LOST, Fault.UNAVAILABLE]


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACK_BYTES, PackKind.DATA, 2 * MIB)


@pytest.fixture
def copying(tmp_path: Path) -> Copying:
    return Copying.make(tmp_path, points=3)


def test_a_copy_is_the_same_vault(copying: Copying) -> None:
    done = copying.copy()
    copying.assert_equal()
    copying.assert_restores()
    held = contents(copying.place.store.snapshot())
    assert (done.objects, done.points, done.skipped, done.findings) == (len(held), 3, 0, [])
    assert done.size_bytes == sum(map(len, held.values()))
    assert done.packs == sum(name.startswith(names.PACKS) for name in held) > 6


def test_a_second_run_puts_what_is_new_and_nothing_else(copying: Copying) -> None:
    copying.copy()
    counting = FaultyStore(copying.target)
    done = copying.copy(target=counting)
    assert (done.objects, done.skipped, done.findings) == (0, len(copying.holds()), [])
    assert not any(call.method in ("put", "extend", "delete_expired") for call in counting.calls)
    before = len(copying.holds())
    copying.backup()
    done = copying.copy()
    assert (done.points, done.objects, done.skipped) == (1, len(copying.holds()) - before, before)
    copying.assert_equal()
    copying.assert_restores()


def test_a_dry_run_tells_what_a_run_would_do_and_puts_nothing(copying: Copying) -> None:
    for _ in range(2):
        would, target = copying.copy(dry_run=True), FaultyStore(copying.target)
        assert copying.copy(dry_run=True, target=target) == would
        assert not any(call.method == "put" for call in target.calls)
        did = copying.copy()
        assert (would.objects, would.packs, would.size_bytes, would.points, would.skipped) == (
            did.objects,
            did.packs,
            did.size_bytes,
            did.points,
            did.skipped,
        )
        copying.backup()


# --- Crashes --------------------------------------------------------------------------------------


def _fail_at_every_call(
    copying: Copying, fault: Fault, *, at_source: bool, wrap: Callable[[ObjectStore], ObjectStore]
) -> list[bool]:
    """Copy once for every call with the fault there; which of the runs came to their end all the same."""

    def run(plan: dict[int, Fault]) -> FaultyStore:
        faulty = FaultyStore(copying.place.store if at_source else copying.target, plan)
        if at_source:
            copying.copy(source=wrap(faulty))
        else:
            copying.copy(target=wrap(faulty))
        return faulty

    ended = []
    for number in range(1, len(run({}).calls) + 1):
        copying.reset()
        try:
            run({number: fault})
            ended.append(True)
        except (Crash, DonjonError):
            ended.append(False)
        copying.assert_shows_whole_points()
        assert copying.copy().findings == []
        copying.assert_equal()
    copying.assert_restores()
    return ended


@pytest.mark.parametrize("at_source", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_copy_may_fail_at_any_call(copying: Copying, fault: Fault, at_source: bool) -> None:
    ended = _fail_at_every_call(copying, fault, at_source=at_source, wrap=lambda store: store)
    assert len(ended) > 20
    assert not any(ended)


@pytest.mark.parametrize("at_source", [True, False])
@pytest.mark.parametrize("fault", [Fault.REPLY_LOST, Fault.UNAVAILABLE])
def test_retries_make_up_for_every_lost_call(copying: Copying, fault: Fault, at_source: bool) -> None:
    def retrying(store: ObjectStore) -> ObjectStore:
        return RetryingStore(store, sleep=lambda _: None)

    ended = _fail_at_every_call(copying, fault, at_source=at_source, wrap=retrying)
    assert len(ended) > 20
    assert all(ended)


def test_a_later_run_may_fail_at_any_call_too(copying: Copying) -> None:
    copying.copy()
    copying.backup()
    start = copying.target.snapshot()
    counting = FaultyStore(copying.target)
    copying.copy(target=counting)
    puts = [number for number, call in enumerate(counting.calls, 1) if call.method == "put"]
    assert counting.calls[puts[-1] - 1].name.startswith(names.MANIFESTS)
    for number in range(1, len(counting.calls) + 1):
        copying.target = MemoryStore.from_snapshot(start, copying.place.clock)
        with pytest.raises(Crash):
            copying.copy(target=FaultyStore(copying.target, {number: Fault.CRASH_AFTER}))
        copying.assert_shows_whole_points()
        copying.copy()
        copying.assert_equal()


def test_a_copy_can_be_ended_anywhere(copying: Copying) -> None:
    asked = 0

    def count() -> None:
        nonlocal asked
        asked += 1

    copying.copy(stop=count)
    for number in range(1, asked + 1):
        copying.reset()
        left = iter(range(number - 1))

        def stop(left: object = left) -> None:
            if next(left, None) is None:  # type: ignore[call-overload]
                raise Interrupted

        with pytest.raises(Interrupted):
            copying.copy(stop=stop)
        copying.assert_shows_whole_points()
    copying.copy()
    copying.assert_equal()


# --- Others at the same time ----------------------------------------------------------------------


def test_two_copies_at_once_make_one(copying: Copying) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(copying.copy) for _ in range(4)]
        done = [run.result(120) for run in runs]
    copying.assert_equal()
    assert [run.findings for run in done] == [[]] * 4
    assert sum(run.objects for run in done) == len(copying.holds())


def test_another_copy_may_come_between_any_two_calls(tmp_path: Path) -> None:
    copying = Copying.make(tmp_path, points=2)
    counting = Interposed(copying.target, 0, lambda: None)
    copying.copy(target=counting)
    for number in range(1, counting.calls + 1):
        copying.reset()
        done = copying.copy(target=Interposed(copying.target, number, copying.copy))
        assert done.findings == []
        copying.assert_equal()


def test_a_backup_may_come_between_any_two_calls(copying: Copying) -> None:
    """What it put before the copy looked is copied whole, or not at all."""

    def backup() -> None:
        copying.place.clock.advance(1)
        copying.place.backup(copying.sources[0])

    counting = Interposed(copying.place.store, 0, lambda: None)
    copying.copy(source=counting)
    for number in range(1, counting.calls + 1):
        copying.reset()
        done = copying.copy(source=Interposed(copying.place.store, number, backup))
        assert done.findings == []
        copying.assert_shows_whole_points()
    copying.copy()
    copying.assert_equal()


def test_a_backup_and_a_copy_of_it_between_any_two_calls_are_no_fork(tmp_path: Path) -> None:
    copying = Copying.make(tmp_path, points=1)
    counting = Interposed(copying.place.store, 0, lambda: None)
    copying.copy(source=counting)

    def go_on() -> None:
        copying.place.clock.advance(1)
        copying.place.backup(copying.sources[0])
        copying.copy()

    for number in range(1, counting.calls + 1):
        copying.reset()
        assert copying.copy(source=Interposed(copying.place.store, number, go_on)).findings == []
    copying.assert_equal()


def test_backups_and_copies_side_by_side(copying: Copying) -> None:
    with ThreadPoolExecutor(2) as pool:
        backups = pool.submit(lambda: [copying.backup() for _ in range(5)])
        while not backups.done():
            assert copying.copy().findings == []
            copying.assert_shows_whole_points()
        backups.result(120)
    copying.copy()
    copying.assert_equal()
    assert len(copying.copied.points()) == 8


# --- Locks, times, copies of copies ---------------------------------------------------------------


def test_the_copy_has_locks_of_its_own_clock(tmp_path: Path) -> None:
    copying = Copying.make(tmp_path, points=1, lock_s=30 * DAY)
    copying.place.clock.advance(10 * DAY + 5)
    copying.copy(lock_s=60 * DAY)
    end = -(-(copying.place.clock() + 60 * DAY) // DAY) * DAY
    assert {item.retain_until for item in copying.target.snapshot().values()} == {end}
    copying.backup()
    copying.place.clock.advance(DAY)
    copying.copy(lock_s=60 * DAY)
    assert {item.retain_until for item in copying.target.snapshot().values()} == {end, end + DAY}
    copying.assert_equal()


def test_an_expired_point_is_copied_as_history(tmp_path: Path) -> None:
    """Its packs are gone, as a reaper leaves it: only its manifest goes along, and needs no lock."""
    copying = Copying.make(tmp_path, points=1, lock_s=7 * DAY)
    place = copying.place
    old = {name for name in place.store.snapshot() if name.startswith(names.PACKS)}
    place.clock.advance(20 * DAY)
    copying.backup()
    kept, *gone = sorted(old)
    for name in gone:
        place.store.delete_expired(name)
    done = copying.copy(lock_s=7 * DAY)
    assert (done.findings, done.points) == ([], 2)
    held = copying.target.snapshot()
    assert not held.keys() & old
    assert kept in place.store.snapshot()
    first, second = (held[name] for name in sorted(held) if name.startswith(names.MANIFESTS))
    assert (first.retain_until, second.retain_until is None) == (None, False)
    copying.copied.assert_restores(copying.sources[1])
    assert copying.copy(lock_s=7 * DAY).objects == 0


class _Silent(StoreWrapper):
    """Does not tell locks in listings, as S3 does not."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.lists_locks = False

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (replace(info, retain_until=None) for info in self.inner.list(prefix))


@pytest.mark.parametrize("wrap", [lambda store: store, _Silent])
@pytest.mark.parametrize("extended", [False, True])
def test_a_point_without_packs_is_no_history_while_it_is_protected(
    tmp_path: Path, extended: bool, wrap: Callable[[ObjectStore], ObjectStore]
) -> None:
    copying = Copying.make(tmp_path, points=1, lock_s=7 * DAY)
    store, clock = copying.place.store, copying.place.clock
    (manifest,) = (name for name in store.snapshot() if name.startswith(names.MANIFESTS))
    if extended:
        clock.advance(20 * DAY)
        store.extend(manifest, clock() + DAY)
    del store._objects[min(name for name in store.snapshot() if name.startswith(names.PACKS))]
    done = copying.copy(source=wrap(store))
    assert [(finding.kind, finding.object) for finding in done.findings] == [("missing", manifest)]
    clock.advance(20 * DAY)
    assert copying.copy(source=wrap(store)).findings == []


def test_with_a_checkpoint_the_order_and_the_times_of_points_stay(tmp_path: Path) -> None:
    watched = Watched.make(tmp_path)
    place = watched.place
    watched.backup(3)
    other = place.add_host()
    place.clock.advance(60)
    other.backup(place.store, watched.source)
    watched.backup(1)
    copying = Copying(place, tmp_path, MemoryStore(place.clock, url="memory:copy"))
    assert copying.copy(dry_run=True).notes == []  # within a day
    place.clock.advance(2 * DAY)
    assert "no checkpoint" in copying.copy(dry_run=True).notes[0]
    signed = watched.sign()
    place.clock.advance(400 * DAY)
    assert copying.copy().notes == []
    copying.assert_equal()
    times = [(point.point_id, point.point.time) for point in place.points()]
    assert [(point.point_id, point.point.time) for point in copying.copied.points()] == times
    again = Copying(copying.copied, tmp_path, MemoryStore(place.clock, url="memory:third"))
    place.clock.advance(DAY)
    assert again.copy().findings == []
    again.assert_equal()
    assert [(point.point_id, point.point.time) for point in again.copied.points()] == times
    assert watched.judge(signed, store=again.target) == []
    watched.backup(1)
    newest = watched.sign()
    assert [f.kind for f in watched.judge(newest, store=again.target)][:1] == ["rolled back"]  # it lags
    copying.copy()
    assert watched.judge(newest, store=copying.target) == []


def test_checkpoints_of_a_revoked_custodian_stay_behind(tmp_path: Path) -> None:
    watched = Watched.make(tmp_path)
    watched.backup(1)
    watched.sign()
    second = watched.add_custodian()
    watched.revoke(watched.custodians[0])
    watched.place.clock.advance(60)
    copying = Copying(watched.place, tmp_path, MemoryStore(watched.place.clock, url="memory:copy"))
    done = copying.copy()
    assert "1 checkpoints of revoked custodians" in " ".join(done.notes)
    assert not [name for name in copying.holds() if name.startswith(names.CHECKPOINTS)]
    copying.copied.assert_sound()
    watched.sign(custodian=second)
    copying.copy()
    assert [name for name in copying.holds() if name.startswith(names.CHECKPOINTS)] == [names.checkpoint(2)]
    copying.copied.assert_sound()


# --- Going on with the copy -----------------------------------------------------------------------


def test_a_host_can_go_on_with_the_copy(copying: Copying) -> None:
    copying.copy()
    host = copying.place.host
    moved = Host(host.credential, Cache(copying.folder / "moved"), host.clock)
    moved.backup(copying.target, copying.sources[1])
    copying.copied.assert_restores(copying.sources[1])
    copying.copied.assert_sound()
    assert len(copying.copied.points()) == 4


def test_a_host_that_goes_on_never_relies_on_what_was_not_copied(copying: Copying) -> None:
    place = copying.place
    good = place.store.snapshot()
    for name in [name for name in good if name.startswith(names.PACKS)]:
        copying.reset()
        place.store = MemoryStore.from_snapshot({**good, name: replace(good[name], data=b"?")}, place.clock)
        assert copying.copy().findings
        host = place.host
        moved = Host(host.credential, Cache(copying.folder / name.rpartition("/")[2]), host.clock)
        moved.backup(copying.target, *copying.sources[:1])
        copying.copied.assert_restores(copying.sources[0])
