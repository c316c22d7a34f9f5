"""Extending locks: what live points need stays locked, at one request an object and epoch."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from donjon.core.errors import DonjonError, IntegrityFailure, Interrupted, StoreUnavailable, UsageError
from donjon.core.events import Silent
from donjon.custody.extending import Extender
from donjon.custody.extension import check_epoch, default_epoch_s, plan_extension
from donjon.format import names
from donjon.format.epoch import Epoch
from donjon.format.manifest import Use
from donjon.format.objects import ObjectKind, pack_object
from donjon.plan.retention import Policy
from donjon.repository.cache import Cache
from donjon.repository.epochs import parse_epoch, read_epochs
from donjon.stores.base import ObjectInfo
from donjon.stores.memory import MemoryStore
from donjon.stores.wrapper import StoreWrapper
from donjon.testing.faulty import Crash, Fault, FaultyStore
from tests.integration.custody import Custody
from tests.integration.engine import DAY, change
from tests.integration.witnesses import Watched

LOCK = 30 * DAY
EPOCH = default_epoch_s(LOCK)


class Unlisted(StoreWrapper):
    """A store whose listings do not tell locks, as those of S3."""

    lists_locks = False

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.lists_locks = False

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (replace(info, retain_until=None) for info in super().list(prefix))


@pytest.fixture
def custody(tmp_path: Path) -> Custody:
    watched = Watched.make(tmp_path, lock_s=LOCK)
    watched.backup(2)
    return Custody(watched)


def needed(custody: Custody) -> list[ObjectInfo]:
    """All that a restore needs: here, as all points are live, everything but epochs."""
    return [
        info
        for info in custody.place.store.list()
        if not info.name.startswith((names.EPOCHS, names.CHECKPOINTS))
    ]


def shortest(custody: Custody) -> float:
    """The days that are left of the lock that ends first."""
    now = custody.place.clock()
    return min((info.retain_until or 0) - now for info in needed(custody)) / DAY


# --- extending ------------------------------------------------------------------------------------


@pytest.mark.parametrize("listed", [True, False])
def test_what_is_live_stays_locked_for_a_year_at_one_request_an_epoch(custody: Custody, listed: bool) -> None:
    """Custody runs daily: nothing ever has less left than lock minus epoch, and no day more."""
    asked: dict[str, list[int]] = {}
    real = custody.place.store

    class Counting(StoreWrapper):
        def extend(self, name: str, retain_until: int, *, version: str | None = None) -> None:
            asked.setdefault(name, []).append(custody.place.clock())
            super().extend(name, retain_until, version=version)

    for _ in range(365):
        custody.wait(1)
        done = custody.extend(store=Counting(real if listed else Unlisted(real)))
        assert (done.debt, done.failed) == (0, [])
        assert shortest(custody) >= (LOCK - EPOCH) / DAY
    days = 365 * DAY / EPOCH
    for times in asked.values():
        assert len(times) <= days + 2
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert min(gaps) >= EPOCH
    custody.place.assert_sound()
    custody.place.assert_restores(custody.watched.source)


def test_nothing_is_asked_for_twice(custody: Custody) -> None:
    custody.wait(10)
    assert custody.plan().debt == 2
    first, asked = custody.extend_counting()
    assert first.objects == len(asked) == sum(asked.values()) == len(needed(custody))
    custody.cache = custody.fresh_cache()
    again, asked = custody.extend_counting()
    assert (again.objects, again.epochs, asked) == (0, [], {})
    assert custody.plan().debt == 0


def test_a_custodian_without_memory_learns_from_the_epochs(custody: Custody) -> None:
    """Where listings tell no locks, another custodian's work is known all the same."""
    custody.wait(10)
    store = Unlisted(custody.place.store)
    assert custody.extend(store=store).objects
    custody.cache = custody.fresh_cache()
    assert custody.extend(store=store).objects == 0


def test_only_what_live_points_need_is_extended(custody: Custody) -> None:
    watched = custody.watched
    before = {info.name for info in custody.place.store.list(names.PACKS)}
    for path in watched.source.rglob("f*"):
        path.write_bytes(b"something else " * 4000)
    watched.backup()
    custody.wait(10)
    done = custody.extend(Policy(last=1))
    assert done.points == 1
    now = custody.place.clock()
    for info in custody.place.store.list(names.PACKS):
        left = (info.retain_until or 0) - now
        assert (left >= LOCK) is (info.name not in before)
    manifests = [info.retain_until or 0 for info in custody.place.store.list(names.MANIFESTS)]
    assert [end - now >= LOCK for end in manifests] == [False, False, True]


def test_a_writer_relies_on_extended_packs(custody: Custody) -> None:
    """So a full copy is not stored once a lock period, though the index tells old lock ends."""
    watched = custody.watched
    for number in range(20):
        custody.wait(5)
        custody.extend()
        (watched.source / "small").write_text(str(number))
        assert watched.place.backup(watched.source).bytes_stored < 10_000
    point = watched.place.points()[-1].point
    assert point.manifest.protected_until - custody.place.clock() > LOCK - EPOCH - 5 * DAY
    watched.place.assert_restores(watched.source)
    watched.place.assert_sound()


def test_without_custody_a_writer_stores_again(custody: Custody) -> None:
    custody.wait(28)
    (custody.watched.source / "small").write_text("x")
    stored = custody.watched.place.backup(custody.watched.source).bytes_stored
    assert stored > 10_000


def test_new_backups_and_several_hosts_at_the_same_time(custody: Custody) -> None:
    other = custody.place.add_host()
    for seed in range(6):
        custody.wait(4)
        change(custody.watched.source, seed)
        other.backup(custody.place.store, custody.watched.source)
        custody.watched.backup()
        done = custody.extend()
        assert (done.debt, done.failed) == (0, [])
    assert shortest(custody) >= (LOCK - EPOCH) / DAY
    custody.place.assert_sound()


# --- what goes wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.REPLY_LOST])
def test_a_run_may_fail_at_any_call_and_the_next_one_finishes(custody: Custody, fault: Fault) -> None:
    custody.wait(10)
    start = custody.place.store.snapshot()
    counting = FaultyStore(custody.place.store)
    custody.extend(store=counting)
    assert len(counting.calls) > 20
    for number in range(1, len(counting.calls) + 1):
        custody.place.store = MemoryStore.from_snapshot(start, custody.place.clock)
        custody.cache = custody.fresh_cache()
        with contextlib.suppress(Crash, DonjonError):
            custody.extend(store=FaultyStore(custody.place.store, {number: fault}))
        manifests_follow_packs(custody)
        assert custody.extend().debt == 0
        assert shortest(custody) >= LOCK / DAY
    custody.place.assert_sound()


def manifests_follow_packs(custody: Custody) -> None:
    """A manifest that was locked anew says that everything it needs was, too."""
    now = custody.place.clock()
    if any((info.retain_until or 0) - now >= LOCK for info in custody.place.store.list(names.MANIFESTS)):
        for folder in (names.PACKS, names.SESSIONS, names.INDEX):
            for info in custody.place.store.list(folder):
                assert (info.retain_until or 0) - now >= LOCK


def test_a_missing_pack_is_told_and_keeps_its_points_from_being_promised(custody: Custody) -> None:
    custody.wait(10)
    objects = dict(custody.place.store.snapshot())
    pack = next(name for name in objects if name.startswith(names.PACKS))
    del objects[pack]
    custody.place.store = MemoryStore.from_snapshot(objects, custody.place.clock)
    plan = custody.plan()
    assert {risk.kind for risk in plan.risks} == {"missing"}
    affected = {point for risk in plan.risks for point in risk.points}
    done = custody.extend()
    assert done.debt == len(affected) > 0
    for info in custody.place.store.list(names.PACKS):  # what is left is kept
        assert (info.retain_until or 0) - custody.place.clock() >= LOCK


def test_a_lock_that_ended_is_told_and_locked_again(custody: Custody) -> None:
    custody.wait(40)
    plan = custody.plan()
    assert plan.debt == 2
    assert plan.risk_count >= len(needed(custody))
    assert {risk.kind for risk in plan.risks} == {"ended"}
    assert custody.extend().debt == 0
    assert shortest(custody) >= LOCK / DAY


def test_a_store_that_goes_away_stops_the_run_and_what_was_done_is_told(custody: Custody) -> None:
    custody.wait(10)

    class Weary(StoreWrapper):
        def extend(self, name: str, retain_until: int, *, version: str | None = None) -> None:
            if name.startswith(names.MANIFESTS):
                raise StoreUnavailable("gone", hint="")
            super().extend(name, retain_until, version=version)

    with pytest.raises(StoreUnavailable):
        custody.extend(store=Weary(custody.place.store))
    (epoch,) = custody.place.store.list(names.EPOCHS)
    assert custody.extend().objects == 2  # the manifests
    assert epoch.name == names.epoch(1)


def test_a_run_that_is_stopped_tells_what_it_did(custody: Custody) -> None:
    custody.wait(10)
    vault = custody.place.open()
    inventory, standings = custody.look()
    plan = plan_extension(inventory, standings, EPOCH)
    checks = 0

    def stop() -> None:
        nonlocal checks
        checks += 1
        if checks == plan.requests - 1:
            raise Interrupted

    custodian = custody.watched.custodians[0]
    with pytest.raises(Interrupted):
        Extender(vault, custodian, inventory, plan, Silent(), stop=stop).run(standings)
    manifests_follow_packs(custody)
    rest = custody.extend()
    assert 0 < rest.objects < plan.requests
    assert rest.debt == 0


# --- epochs -----------------------------------------------------------------------------------------


def forged(custody: Custody, **changes: object) -> bytes:
    custodian = custody.watched.custodians[0]
    vault = custody.place.open()
    packs = tuple(use for point in custody.place.points() for use in point.point.manifest.uses)[:1]
    epoch = Epoch(
        custodian.custodian_id, 1, custody.place.clock(), custody.place.clock() + 900 * DAY, packs, ()
    )
    key = changes.pop("key", custodian.signing_key)
    from msgspec import structs

    return pack_object(ObjectKind.EPOCH, structs.replace(epoch, **changes), vault.vault_id, key)  # type: ignore[arg-type]


def test_a_forged_epoch_is_worth_nothing(custody: Custody) -> None:
    """Nobody else can make a writer or a custodian believe that something is locked."""
    custody.wait(28)
    host = custody.place.host.credential
    for data in (
        forged(custody, key=host.signing_key),
        forged(custody, key=host.signing_key, custodian=host.writer_id),
        forged(custody, key=custody.place.root),
        forged(custody, number=2),
        forged(custody)[:-1],
        b"rubbish",
    ):
        objects = dict(custody.place.store.snapshot())
        store = MemoryStore.from_snapshot(objects, custody.place.clock)
        store.put(names.epoch(1), data)
        with pytest.raises(IntegrityFailure):
            parse_epoch(custody.place.open(store), data, names.epoch(1))
        key = next(iter(custody.place.points()[0].point.uses))
        assert read_epochs(custody.place.open(store), custody.fresh_cache()).pack(key) == 0
        assert custody.extend(store=Unlisted(store)).debt == 0


def test_epochs_of_a_revoked_custodian_do_not_count(custody: Custody) -> None:
    custody.wait(10)
    custody.extend()
    key = next(iter(custody.place.points()[0].point.uses))
    assert read_epochs(custody.place.open(), custody.fresh_cache()).pack(key)
    custody.watched.revoke(custody.watched.custodians[0])
    assert read_epochs(custody.place.open(), custody.cache).pack(key) == 0


def test_a_damaged_epoch_in_the_cache_is_read_again(custody: Custody) -> None:
    custody.wait(10)
    custody.extend()
    key = next(iter(custody.place.points()[0].point.uses))
    cache = custody.fresh_cache()
    assert read_epochs(custody.place.open(), cache).pack(key)
    path = cache.path("epochs", "00000001")
    path.write_bytes(path.read_bytes()[:-3])
    assert read_epochs(custody.place.open(), cache).pack(key) == 0
    assert read_epochs(custody.place.open(), cache).pack(key)


def test_two_custodians_at_once_lose_no_epoch(custody: Custody) -> None:
    custody.wait(10)
    objects = custody.place.store

    class Race(StoreWrapper):
        def put(self, name: str, data: bytes, *, retain_until: int | None = None) -> ObjectInfo:  # type: ignore[override]
            if name == names.epoch(1):
                with contextlib.suppress(DonjonError):
                    objects.put(name, forged(custody, until=0), retain_until=retain_until)
            return super().put(name, data, retain_until=retain_until)

    done = custody.extend(store=Race(objects))
    assert done.epochs == [names.epoch(2)]


def test_a_stolen_writer_key_cannot_talk_packs_out_of_custody(custody: Custody) -> None:
    """Rows that name a pack otherwise, with a lock that never ends: the pack is kept all the same."""
    from donjon.format.pack import PackKind
    from donjon.format.table import PackRow, Table, build_table, seal_table

    host, vault = custody.place.host.credential, custody.place.open()
    for info in list(custody.place.store.list(names.PACKS)):
        digest = bytes.fromhex(info.name.rpartition("/")[2])
        row = PackRow(digest, 1, 4000, PackKind.DATA, info.size_bytes, 2**40)
        table = seal_table(
            Table(build_table([(row, [])]), "x"), vault.secret.index_key, host.writer_id, 1, 9999
        )
        data = pack_object(ObjectKind.INDEX, table, vault.vault_id, host.signing_key)
        name = names.index(host.writer_id, 1, 9999)
        lying = MemoryStore.from_snapshot(dict(custody.place.store.snapshot()), custody.place.clock)
        lying.put(name, data, retain_until=info.retain_until)
        lying_custody = Unlisted(lying)
        custody.place.clock.advance(10 * DAY)
        assert custody.extend(store=lying_custody).debt == 0
        assert (lying.head(info.name).retain_until or 0) - custody.place.clock() >= LOCK
        custody.place.clock.advance(-10 * DAY)


def test_epoch_bounds(custody: Custody) -> None:
    assert default_epoch_s(7 * DAY) == 7 * DAY // 5
    assert default_epoch_s(3 * DAY) == DAY
    for epoch_s in (0, DAY - 1, LOCK // 2 + 1):
        with pytest.raises(UsageError, match="does not fit"):
            check_epoch(epoch_s, LOCK)
    check_epoch(DAY, LOCK)


def test_an_epoch_object_is_refused_if_it_is_out_of_order() -> None:
    use = Use(bytes(16), 1, b"\1")
    good = Epoch(bytes(16), 1, 1, 1, (use,), ("a", "b"))
    assert good.names == ("a", "b")
    for packs, others in (((use, use), ()), ((), ("b", "a")), ((), ("a", "a")), ((), ("x" * 201,))):
        with pytest.raises(ValueError, match="impossible"):
            Epoch(bytes(16), 1, 1, 1, packs, others)


def test_cache_is_needed_for_nothing(custody: Custody, tmp_path: Path) -> None:
    custody.wait(10)
    custody.cache = Cache(tmp_path / "none")
    assert custody.extend().debt == 0
