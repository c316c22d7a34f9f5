"""Reaping: what nothing needs goes after its lock, and nothing else does, whoever lies or crashes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from donjon.core.errors import DonjonError, Refused, UsageError
from donjon.core.events import Silent
from donjon.custody.reap_plan import ReapPlan, read_plan, same, write_plan
from donjon.custody.reaper import reap
from donjon.custody.reaping import COVER, INDEX, PACK, Doomed, plan_reaping
from donjon.format import names
from donjon.format.objects import ObjectKind, pack_object
from donjon.format.pack import Frame, PackKind
from donjon.format.table import PackRow, Table, build_table, seal_table
from donjon.plan.retention import Policy
from donjon.stores.base import Buffer, ObjectInfo
from donjon.stores.first_versions import FirstVersions
from donjon.stores.memory import MemoryStore
from donjon.stores.wrapper import StoreWrapper
from donjon.testing.faulty import Crash, Fault, FaultyStore
from tests.integration.custody import Custody
from tests.integration.engine import DAY
from tests.integration.versioned import VersionedStore
from tests.integration.witnesses import Watched

LOCK = 30 * DAY
LAST = Policy(last=1)


def rewrite(custody: Custody, text: str) -> None:
    """Everything is different, so that old packs are needed by old points only."""
    for path in sorted(custody.watched.source.rglob("*")):
        if path.is_file():
            path.write_text(f"{path.name} {text} " * 3000)


@pytest.fixture
def custody(tmp_path: Path) -> Custody:
    """Two points that share nothing."""
    watched = Watched.make(tmp_path, lock_s=LOCK)
    made = Custody(watched)
    watched.backup()
    rewrite(made, "second")
    watched.backup()
    return made


def all_names(custody: Custody, folder: str) -> set[str]:
    return {info.name for info in custody.place.store.list(folder)}


def packs_of(custody: Custody, number: int) -> set[str]:
    """The packs that only this point needs."""
    inventory, standings = custody.look()
    uses = [standing.point.uses for standing in standings]
    mine = set(uses[number]) - set().union(*(u for n, u in enumerate(uses) if n != number))
    table = inventory.packs
    return {names.pack(digest) for n, digest in table.present() if mine & set(table.keys(n))}


# --- what goes and what stays ---------------------------------------------------------------------


def test_nothing_goes_before_its_lock_has_ended(custody: Custody) -> None:
    for _ in range(8):
        assert custody.reaping(LAST).doomed == []
        custody.wait(3)
        custody.extend(LAST)
    assert custody.reaping(LAST).waiting == len(packs_of(custody, 0))


def test_what_only_the_old_point_needs_goes_and_the_new_one_restores(custody: Custody) -> None:
    old, kept = packs_of(custody, 0), all_names(custody, names.PACKS) - packs_of(custody, 0)
    for _ in range(7):
        custody.wait(5)
        custody.extend(LAST)
    plan = custody.reaping(LAST)
    assert {item.name for item in plan.doomed} == old
    done = custody.reap(LAST)
    assert (done.deleted, done.kept) == (len(old), [])
    assert all_names(custody, names.PACKS) == kept
    custody.place.assert_sound()
    custody.place.assert_restores(custody.watched.source)
    report = custody.place.verify()
    assert [len(report.structure.expired), report.points_read] == [1, 1]
    again = custody.reaping(LAST)
    assert {item.why for item in again.doomed} == {INDEX}
    custody.reap(LAST)
    custody.place.assert_sound()
    assert len(custody.place.points()) == 2  # history stays


def test_suspect_points_have_no_clean_one_reaped_until_their_marks_are_lifted(custody: Custody) -> None:
    """With last=1 two newer points of encrypted data would have had the clean one deleted."""
    first, second = (standing.point.point_id for standing in custody.look()[1])
    rewrite(custody, "ransom")
    custody.watched.backup()
    third = custody.look()[1][-1].point.point_id
    custody.suspect = {second, third}

    def pass_by() -> None:
        for _ in range(7):
            custody.wait(5)
            custody.extend(LAST)

    pass_by()
    assert [standing.reasons for standing in custody.look(LAST)[1]] == [
        ("last",), ("not counted: it is suspect",), ("not counted: it is suspect",)
    ]  # fmt: skip
    assert custody.reaping(LAST).doomed == []
    assert custody.look(LAST)[0].now > custody.place.open().object.lock_s
    custody.suspect = {first, second}  # the third was clean after all
    pass_by()
    assert custody.reaping(LAST).doomed == []  # what is suspect stays as evidence, the oldest point too
    old = packs_of(custody, 0) | packs_of(custody, 1)
    custody.suspect = set()
    pass_by()
    assert {item.name for item in custody.reaping(LAST).doomed} == old
    custody.reap(LAST)
    custody.place.assert_sound()
    custody.place.assert_restores(custody.watched.source)


def test_an_expired_point_takes_no_place_and_never_comes_back(custody: Custody) -> None:
    for _ in range(7):
        custody.wait(5)
        custody.extend(LAST)
    custody.reap(LAST)
    _, standings = custody.look(Policy(last=2))
    assert [(s.is_live, s.is_expired) for s in standings] == [(False, True), (True, False)]
    plan = custody.plan(Policy(last=2))
    assert (plan.live, plan.risks) == (1, [])


def test_without_a_policy_everything_stays_for_ever(custody: Custody) -> None:
    for _ in range(12):
        custody.wait(5)
        custody.extend()
    assert custody.reaping().doomed == []
    custody.place.assert_sound()


def test_a_locked_manifest_keeps_its_packs_though_no_policy_wants_it(custody: Custody) -> None:
    """The lock is a promise: packs stay while the lock of a manifest that needs them holds."""
    custody.wait(26)
    manifest = names.manifest(custody.place.host.credential.writer_id, 1)
    custody.place.store.extend(manifest, custody.place.clock() + LOCK)
    custody.wait(20)
    custody.extend(LAST)
    assert custody.reaping(LAST).doomed == []


def test_orphans_of_a_crash_go_after_their_lock(custody: Custody) -> None:
    rewrite(custody, "third")
    before = all_names(custody, names.PACKS)

    class Dying(StoreWrapper):
        def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
            if name.startswith(names.MANIFESTS):
                raise Crash
            return super().put(name, data, retain_until=retain_until)

    with pytest.raises(Crash):
        custody.place.host.backup(Dying(custody.place.store), custody.watched.source)
    orphans = all_names(custody, names.PACKS) - before
    assert orphans
    for _ in range(6):
        assert custody.reaping().doomed == []
        custody.wait(5)
        custody.extend()
    custody.wait(2)
    assert {item.name for item in custody.reaping().doomed if item.why == PACK} == orphans
    custody.reap()
    custody.place.assert_sound()


def test_a_vault_without_locks_is_never_reaped(tmp_path: Path) -> None:
    watched = Watched.make(tmp_path)
    watched.backup(2)
    custody = Custody(watched)
    custody.wait(1000)
    assert custody.reaping(LAST).doomed == []


def test_a_deleted_point_goes_after_its_lock_only(custody: Custody) -> None:
    given_up = [custody.place.points()[0].point_id]
    assert custody.reaping(deleted=given_up).doomed == []
    for _ in range(7):
        custody.wait(5)
        custody.extend(deleted=given_up)
    old = packs_of(custody, 0)
    assert {item.name for item in custody.reaping(deleted=given_up).doomed} == old


# --- lies -----------------------------------------------------------------------------------------


def expire(custody: Custody) -> None:
    for _ in range(7):
        custody.wait(5)
        custody.extend(LAST)


def test_a_hidden_manifest_keeps_everything_of_its_writer(custody: Custody) -> None:
    """Whoever hides a point must not have its packs deleted for it."""
    rewrite(custody, "third")
    custody.watched.backup()
    custody.wait(40)
    for sequence in (1, 2):
        name = names.manifest(custody.place.host.credential.writer_id, sequence)
        objects = dict(custody.place.store.snapshot())
        del objects[name]
        lying = MemoryStore.from_snapshot(objects, custody.place.clock)
        plan = plan_reaping(*custody.look(LAST, lying))
        assert plan.unsettled == {custody.place.host.credential.writer_id}
        assert plan.doomed == []


def test_a_damaged_manifest_keeps_everything_of_its_writer(custody: Custody) -> None:
    custody.wait(40)
    name = names.manifest(custody.place.host.credential.writer_id, 2)
    objects = dict(custody.place.store.snapshot())
    del objects[name]
    lying = MemoryStore.from_snapshot(objects, custody.place.clock)
    lying.put(name, b"damaged")
    plan = plan_reaping(*custody.look(LAST, lying))
    assert plan.unsettled
    assert plan.doomed == []


def test_a_stolen_writer_key_cannot_talk_the_reaper_into_anything(custody: Custody) -> None:
    """Rows that give a needed pack another ordinal, which nothing needs: it stays, by the honest rows."""
    host, vault = custody.place.host.credential, custody.place.open()
    expire(custody)
    custody.wait(40)  # custody stopped: every lock has ended
    start, needed = custody.place.store.snapshot(), packs_of(custody, 1)
    for hide_honest in (False, True):
        objects = dict(start)
        if hide_honest:
            objects = {n: item for n, item in objects.items() if not n.startswith(names.INDEX)}
        lying = MemoryStore.from_snapshot(objects, custody.place.clock)
        rows: list[tuple[PackRow, list[Frame]]] = [
            (PackRow(bytes.fromhex(info.name[-64:]), 1, 4000 + n, PackKind.DATA, info.size_bytes, 1), [])
            for n, info in enumerate(custody.place.store.list(names.PACKS))
        ]
        table = seal_table(Table(build_table(rows), "x"), vault.secret.index_key, host.writer_id, 1, 9999)
        lying.put(
            names.index(host.writer_id, 1, 9999),
            pack_object(ObjectKind.INDEX, table, vault.vault_id, host.signing_key),
        )
        custody.cache = custody.fresh_cache()
        fresh = plan_reaping(*custody.look(LAST, lying))
        done = reap(custody.place.open(lying), fresh, fresh.doomed, Silent())
        assert {name for name, _ in done.kept} == (needed if hide_honest else set())
        assert needed <= {info.name for info in lying.list(names.PACKS)}


def test_a_forged_plan_deletes_nothing_that_is_needed(custody: Custody) -> None:
    """Even with the seal of this host: only what a fresh look agrees on goes, and locks hold all the same."""
    planned = [Doomed(i.name, i.version, i.size_bytes, PACK) for i in custody.place.store.list()]
    inventory, standings = custody.look()
    fresh = plan_reaping(inventory, standings)
    assert same(planned, fresh.doomed) == []
    done = reap(custody.place.open(), fresh, planned, Silent())  # as if there were no comparing
    assert done.deleted == 0
    custody.wait(60)
    done = reap(custody.place.open(), fresh, [i for i in planned if i.name.startswith("packs/")], Silent())
    assert done.deleted == 0
    custody.place.assert_sound()


# --- plans ----------------------------------------------------------------------------------------


def a_plan(**changes: object) -> ReapPlan:
    plan = ReapPlan(b"V" * 16, 1000, 1000 + 7 * DAY, Policy(last=1), [Doomed("packs/aa/x", "v1", 5, PACK)])
    for name, value in changes.items():
        setattr(plan, name, value)
    return plan


def test_a_plan_is_read_back_on_its_host_alone(tmp_path: Path) -> None:
    path = tmp_path / "plan"
    write_plan(path, a_plan(), "memory:", b"k" * 32)
    assert read_plan(path, b"k" * 32) == a_plan()
    assert "packs/aa/x" in path.read_text()  # people can read it
    with pytest.raises(Refused, match="never overwritten"):
        write_plan(path, a_plan(), "memory:", b"k" * 32)
    with pytest.raises(Refused, match="no plan that was made on this host"):
        read_plan(path, b"x" * 32)
    with pytest.raises(UsageError, match="cannot be read"):
        read_plan(tmp_path / "none", b"k" * 32)


def test_every_changed_byte_of_a_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan"
    write_plan(path, a_plan(), "memory:", b"k" * 32)
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        if at < len(data) - 1:
            with pytest.raises(Refused):
                read_plan(path, b"k" * 32)
    for bad in (b"", b"\n", b"{}", data[:-10], data + data):
        path.write_bytes(bad)
        with pytest.raises(Refused):
            read_plan(path, b"k" * 32)


def test_a_plan_has_its_vault_and_its_time() -> None:
    plan = a_plan()
    plan.check(b"V" * 16, 1000 + 7 * DAY, "plan")
    with pytest.raises(Refused, match="another vault"):
        plan.check(b"W" * 16, 1000 + 7 * DAY, "plan")
    with pytest.raises(Refused, match="grace time ends"):
        plan.check(b"V" * 16, 1000 + 7 * DAY - 1, "plan")
    with pytest.raises(Refused, match="too old"):
        plan.check(b"V" * 16, 1000 + 37 * DAY + 1, "plan")


# --- crashes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.REPLY_LOST])
def test_reaping_may_fail_at_any_call_and_is_run_again(custody: Custody, fault: Fault) -> None:
    old = packs_of(custody, 0)
    expire(custody)
    start = custody.place.store.snapshot()
    counting = FaultyStore(custody.place.store)
    custody.reap(LAST, counting)
    for number in range(1, len(counting.calls) + 1):
        custody.place.store = MemoryStore.from_snapshot(start, custody.place.clock)
        with contextlib.suppress(Crash, DonjonError):
            custody.reap(LAST, FaultyStore(custody.place.store, {number: fault}))
        custody.reap(LAST)
        assert not old & all_names(custody, names.PACKS)
        custody.place.assert_sound()
    custody.place.assert_restores(custody.watched.source)


def test_a_backup_that_runs_while_everything_old_is_reaped_is_whole(custody: Custody) -> None:
    """At every call of a backup somebody reaps: the lock is the lease, so no race is lost."""
    place = custody.place
    custody.wait(29)
    custody.extend(LAST)
    custody.wait(3)  # what the old point alone needs has no lock any more

    class Reaping(StoreWrapper):
        def _around(self, method: str, name: str, call):  # type: ignore[no-untyped-def]
            custody.reap(LAST)
            return call()

    (custody.watched.source / "new").write_text("new")
    place.host.backup(Reaping(place.store), custody.watched.source)
    place.assert_sound()
    place.assert_restores(custody.watched.source)


# --- versions -------------------------------------------------------------------------------------


@pytest.fixture
def bucket(tmp_path: Path) -> tuple[Custody, VersionedStore]:
    """The same vault in a store with versions, of whose locks listings tell nothing."""
    watched = Watched.make(tmp_path, lock_s=LOCK)
    made = Custody(watched)
    versions = VersionedStore(watched.place.clock)
    objects = watched.place.store
    for info in objects.list():
        versions.put(info.name, objects.get(info.name), retain_until=info.retain_until)
    watched.place.store = FirstVersions(versions)  # type: ignore[assignment]
    watched.backup()
    rewrite(made, "second")
    watched.backup()
    return made, versions


def test_reaping_with_versions(bucket: tuple[Custody, VersionedStore]) -> None:
    custody, _ = bucket
    old = packs_of(custody, 0)
    expire(custody)
    done = custody.reap(LAST)
    assert (done.deleted, done.kept) == (len(old), [])
    assert not old & all_names(custody, names.PACKS)
    custody.place.assert_sound()
    custody.place.assert_restores(custody.watched.source)


def test_covers_go_and_what_they_lay_over_stays(bucket: tuple[Custody, VersionedStore]) -> None:
    custody, versions = bucket
    covered = [info.name for info in versions.list() if not info.name.startswith(names.EPOCHS)]
    for number, name in enumerate(covered):
        if number % 2:
            versions.lay_over(name, b"garbage", custody.place.clock() + 5 * DAY)
        if number % 3 != 1:
            versions.hide(name)
    plan = custody.reaping()
    assert {item.why for item in plan.doomed} == {COVER}  # markers have no locks
    hidden = {risk.object for risk in custody.plan().risks if risk.kind == "hidden"}
    assert hidden == {name for number, name in enumerate(covered) if number % 3 != 1}
    custody.reap()
    assert not any(info.delete_marker for info in versions.list())
    for _ in range(8):
        custody.wait(5)
        custody.extend()
    custody.reap()
    assert all(versions.get(name) != b"garbage" for name in covered)
    custody.place.assert_sound()
    custody.place.assert_restores(custody.watched.source)


def test_what_is_no_object_of_ours_is_left_alone(bucket: tuple[Custody, VersionedStore]) -> None:
    custody, versions = bucket
    versions.put("notes/readme", b"x")
    versions.lay_over("notes/readme", b"y")
    versions.hide("notes/readme")
    custody.wait(100)
    assert not [item for item in custody.reaping(LAST).doomed if item.name.startswith("notes")]
