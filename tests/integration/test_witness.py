"""A store that hides, rolls back, forks and reorders, against clients that hold a checkpoint."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from donjon.codec.sign import SigningKey
from donjon.core.errors import DonjonError, IntegrityFailure
from donjon.core.events import Silent
from donjon.format import names
from donjon.repository.attest import sign_checkpoint
from donjon.repository.check import check_structure
from donjon.repository.checkpoints import newest_trusted, parse_checkpoint
from donjon.repository.witness import FORKED, OMITTED, REORDERED, ROLLED_BACK
from donjon.stores.base import Buffer, ObjectInfo
from donjon.stores.memory import MemoryStore
from donjon.stores.retry import RetryingStore
from donjon.stores.wrapper import StoreWrapper
from donjon.testing.faulty import Crash, Fault, FaultyStore
from tests.integration.engine import DAY
from tests.integration.witnesses import Watched, showing


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched.make(tmp_path)


def test_an_honest_store_contradicts_nothing(watched: Watched) -> None:
    empty = watched.sign()
    watched.backup(3)
    first = watched.sign()
    watched.backup(2)  # newer than any checkpoint
    assert watched.judge(empty, first, pinned=2) == []
    second = watched.sign()
    assert watched.judge(empty, first, second) == []
    assert check_structure(watched.place.open(), Silent()).findings == []
    assert [row.point_id.hex() for row in second.checkpoint.chains[0].rows()] == watched.points()
    assert (second.number, second.checkpoint.previous) == (3, first.digest)


def test_hidden_points_at_the_end_are_named(watched: Watched) -> None:
    watched.backup(4)
    signed = watched.sign()
    lying = showing(watched, lambda name: name in (watched.name(3), watched.name(4)))
    (finding,) = watched.judge(signed, store=lying)
    assert (finding.kind, finding.object) == (ROLLED_BACK, watched.name(3))
    assert list(finding.affects) == watched.points()[2:]


def test_hidden_points_in_the_middle_are_named(watched: Watched) -> None:
    watched.backup(4)
    signed = watched.sign()
    lying = showing(watched, lambda name: name == watched.name(2))
    (finding,) = watched.judge(signed, store=lying)
    assert (finding.kind, finding.object) == (OMITTED, watched.name(2))
    assert list(finding.affects) == watched.points()[1:2]


def test_a_hidden_writer_is_named(watched: Watched) -> None:
    other = watched.place.add_host()
    watched.backup(1)
    other.backup(watched.place.store, watched.source)
    signed = watched.sign()
    lying = showing(watched, lambda name: name.startswith(f"manifests/{other.credential.writer_id.hex()}"))
    (finding,) = watched.judge(signed, store=lying)
    assert finding.kind == ROLLED_BACK
    assert finding.object == names.manifest(other.credential.writer_id, 1)


def test_an_older_state_of_everything_is_found(watched: Watched) -> None:
    watched.backup(2)
    watched.sign()
    old = watched.place.store.snapshot()
    watched.backup(2)
    signed = watched.sign()
    lying = MemoryStore.from_snapshot(old, watched.place.clock)
    findings = watched.judge(signed, store=lying)
    assert {finding.kind for finding in findings} == {ROLLED_BACK}
    assert {point for finding in findings for point in finding.affects} == set(watched.points()[2:])
    # Without the carried one, the number that this client saw still tells.
    (pin,) = watched.judge(store=lying, pinned=2)
    assert (pin.kind, pin.object) == (ROLLED_BACK, names.checkpoint(2))


def test_a_replayed_old_checkpoint_proves_nothing_and_hides_nothing(watched: Watched) -> None:
    watched.backup(2)
    old = watched.sign()
    watched.backup(2)
    new = watched.sign()
    lying = showing(watched, lambda name: name in (watched.name(4), names.checkpoint(2)))
    assert watched.judge(old, store=lying) == []  # older than what is hidden
    assert {finding.kind for finding in watched.judge(old, new, store=lying)} == {ROLLED_BACK}
    assert watched.judge(old, store=lying, pinned=2)
    assert any(
        finding.affects == tuple(watched.points()[3:]) for finding in watched.judge(old, new, store=lying)
    )


def _fork(watched: Watched, after: int) -> tuple[MemoryStore, MemoryStore]:
    """Two stores that went different ways, as a store shows them to two clients."""
    watched.backup(after)
    left, start = watched.place.store, watched.place.store.snapshot()
    cache = watched.place.host.cache.folder
    watched.backup(1)
    watched.place.store = right = MemoryStore.from_snapshot(start, watched.place.clock)
    (cache / "index" / watched.place.host.credential.writer_id.hex() / "sequence").unlink()
    watched.backup(1)
    return left, right


def test_two_manifests_with_one_sequence_are_a_fork(watched: Watched) -> None:
    left, right = _fork(watched, 2)
    signed = watched.sign(left)
    (finding,) = watched.judge(signed, store=right)[-1:]
    assert (finding.kind, finding.object) == (FORKED, watched.name(3))
    assert finding.affects == (signed.checkpoint.chains[0].head.hex(),)


def test_two_checkpoints_with_one_number_are_a_fork(watched: Watched) -> None:
    left, right = _fork(watched, 1)
    one, two = watched.sign(left), watched.sign(right)
    assert one.number == two.number == 1
    findings = watched.judge(one, store=right)
    assert names.checkpoint(1) in {f.object for f in findings if f.kind == FORKED}
    with pytest.raises(IntegrityFailure, match="another checkpoint than the one"):
        sign_checkpoint(watched.place.open(right), watched.custodians[0], (1, one.digest.hex()))


def test_changed_times_are_a_reordering(watched: Watched) -> None:
    watched.backup(3)
    signed = watched.sign()
    objects = dict(watched.place.store.snapshot())
    name = watched.name(1)
    objects[name] = replace(objects[name], stored_at=objects[name].stored_at - 1000)
    (finding,) = watched.judge(signed, store=MemoryStore.from_snapshot(objects, watched.place.clock))
    assert (finding.kind, finding.affects) == (REORDERED, (watched.points()[0],))


def test_a_later_stamp_does_not_change_the_order(watched: Watched) -> None:
    """A copy stamps everything anew; the checkpoint keeps the order, and verify is content."""
    watched.backup(3)
    watched.sign()
    before = [(point.point_id, point.point.time) for point in watched.place.points()]
    objects = dict(watched.place.store.snapshot())
    for number in (1, 2, 3):
        moved = objects[watched.name(number)].stored_at + 10_000 - 1000 * number
        objects[watched.name(number)] = replace(objects[watched.name(number)], stored_at=moved)
    copy = MemoryStore.from_snapshot(objects, watched.place.clock)
    assert [(point.point_id, point.point.time) for point in watched.place.points(copy)] == before
    assert watched.judge(*watched.carried, store=copy) == []


# --- who may sign ---------------------------------------------------------------------------------


def test_a_forged_signature_is_refused(watched: Watched) -> None:
    signed = watched.sign()
    vault = watched.place.open()
    for key in (SigningKey.generate(), watched.place.host.credential.signing_key, watched.place.root):
        with pytest.raises(IntegrityFailure, match="signature is wrong"):
            parse_checkpoint(vault, watched.forge(key, signed), "forged")
        claimed = watched.forge(key, signed, custodian=watched.place.host.credential.writer_id)
        with pytest.raises(IntegrityFailure, match="no keyring record certifies"):
            parse_checkpoint(vault, claimed, "forged")


def test_a_checkpoint_of_another_vault_is_refused(watched: Watched, tmp_path: Path) -> None:
    other = Watched.make(tmp_path / "other")
    signed = other.sign()
    with pytest.raises(IntegrityFailure, match="no keyring record certifies"):
        parse_checkpoint(watched.place.open(), signed.data, "foreign")


def test_a_checkpoint_tells_of_a_hidden_keyring_record(watched: Watched) -> None:
    watched.add_custodian()
    signed = watched.sign()
    last = names.keyring(watched.place.open().keyring.number)
    vault = watched.place.open(showing(watched, lambda name: name == last))
    with pytest.raises(IntegrityFailure, match="keyring"):
        parse_checkpoint(vault, signed.data, "carried")


def test_a_revoked_custodian_counts_for_what_came_before_only(watched: Watched) -> None:
    thief, honest = watched.custodians[0], watched.add_custodian()
    watched.backup(2)
    before = watched.sign()
    watched.place.clock.advance(10)
    watched.revoke(thief)
    watched.place.clock.advance(10)
    assert newest_trusted(watched.place.open()) is not None
    lying = showing(watched, lambda name: name == watched.name(2))
    with pytest.raises(IntegrityFailure):  # even to the thief's own tool the vault contradicts the last one
        watched.sign(lying, thief)
    forged = watched.forge(thief.signing_key, before, number=2, previous=before.digest, chains=())
    watched.place.store.put(names.checkpoint(2), forged)
    trusted = newest_trusted(watched.place.open())
    assert trusted is not None
    assert trusted.number == 1
    findings = check_structure(watched.place.open(), Silent()).findings
    assert [(f.kind, f.object) for f in findings] == [("suspicious", names.checkpoint(2))]
    third = watched.sign(custodian=honest)
    assert (third.number, len(third.times())) == (3, 2)


def test_leaving_out_what_is_locked_is_found_whoever_signs_it(tmp_path: Path) -> None:
    watched = Watched.make(tmp_path, lock_s=30 * DAY)
    watched.backup(3)
    honest = watched.sign()
    short = [row for row in honest.checkpoint.chains[0].rows() if row.sequence != 2]
    from donjon.format.checkpoint import chain

    one = honest.checkpoint.chains[0]
    forged = watched.forge(
        watched.custodians[0].signing_key,
        honest,
        number=2,
        previous=honest.digest,
        chains=(chain(one.writer, one.last, one.head, short),),
    )
    watched.place.store.put(names.checkpoint(2), forged)
    lying = showing(watched, lambda name: name == watched.name(2))
    (finding,) = watched.judge(honest, store=lying)
    assert (finding.kind, finding.affects) == (OMITTED, (watched.points()[1],))


# --- signing --------------------------------------------------------------------------------------


def test_nothing_is_signed_over_hidden_points(watched: Watched) -> None:
    watched.backup(3)
    watched.sign()
    for hidden in (2, 3):
        lying = showing(watched, lambda name, hidden=hidden: name == watched.name(hidden))  # type: ignore[misc]
        with pytest.raises(IntegrityFailure, match=watched.points()[hidden - 1][:12]):
            watched.sign(lying)
        assert names.checkpoint(2) not in lying.snapshot()


def test_points_may_go_once_their_lock_has_ended_and_somebody_says_so(tmp_path: Path) -> None:
    watched = Watched.make(tmp_path, lock_s=7 * DAY)
    watched.backup(3)
    signed = watched.sign()
    shorter = showing(watched, lambda name: name == watched.name(1))
    with pytest.raises(IntegrityFailure):
        watched.sign(shorter, accept_removed=True)  # still locked
    watched.place.clock.advance(9 * DAY)
    with pytest.raises(IntegrityFailure, match="not shown any more"):
        watched.sign(shorter)
    after = watched.sign(shorter, accept_removed=True)
    assert [row.sequence for row in after.checkpoint.chains[0].rows()] == [2, 3]
    assert watched.judge(signed, after, store=shorter) == []


def test_an_end_that_was_removed_is_not_forgotten(watched: Watched) -> None:
    watched.backup(2)
    watched.sign()
    shorter = showing(watched, lambda name: name == watched.name(2))
    chain = watched.sign(shorter, accept_removed=True).checkpoint.chains[0]
    assert (chain.last, [row.sequence for row in chain.rows()]) == (2, [1])


class _Meanwhile(StoreWrapper):
    """Somebody else does something right before the first put of a checkpoint."""

    def __init__(self, watched: Watched, what: str) -> None:
        super().__init__(watched.place.store)
        self._watched = watched
        self._what = what

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        if name.startswith(names.CHECKPOINTS) and self._what:
            what, self._what = self._what, ""
            if what == "sign":
                self._watched.sign(custodian=self._watched.custodians[1])
            else:
                self._watched.backup(1)
        return self.inner.put(name, data, retain_until=retain_until)


def test_two_custodians_at_once_make_one_chain(watched: Watched) -> None:
    watched.add_custodian()
    watched.backup(2)
    watched.sign(_Meanwhile(watched, "sign"))
    first, second = watched.carried
    assert (first.number, second.number, second.checkpoint.previous) == (1, 2, first.digest)
    assert watched.judge(first, second) == []
    assert check_structure(watched.place.open(), Silent()).findings == []


def test_a_backup_in_between_is_no_alarm(watched: Watched) -> None:
    watched.backup(2)
    watched.sign(_Meanwhile(watched, "backup"))
    assert len(watched.points()) == 3
    assert watched.judge(*watched.carried) == []
    watched.sign()
    assert watched.judge(*watched.carried) == []


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.REPLY_LOST])
def test_signing_may_fail_at_any_call(watched: Watched, fault: Fault) -> None:
    watched.backup(2)
    watched.sign()
    watched.backup(1)
    start = watched.place.store.snapshot()
    counting = FaultyStore(watched.place.store)
    watched.sign(counting)
    assert len(counting.calls) >= 6
    for number in range(1, len(counting.calls) + 1):
        watched.place.store = MemoryStore.from_snapshot(start, watched.place.clock)
        with contextlib.suppress(Crash, DonjonError):
            watched.sign(FaultyStore(watched.place.store, {number: fault}))
        again = watched.sign()
        assert again.number in (2, 3)
        assert watched.judge(again) == []
        assert check_structure(watched.place.open(), Silent()).findings == []


def test_a_lost_reply_to_the_put_makes_no_second_checkpoint(watched: Watched) -> None:
    watched.backup(1)
    start = watched.place.store.snapshot()
    counting = FaultyStore(watched.place.store)
    watched.sign(counting)
    (put,) = [n for n, call in enumerate(counting.calls, 1) if call.method == "put"]
    watched.place.store = MemoryStore.from_snapshot(start, watched.place.clock)
    faulty = FaultyStore(watched.place.store, {put: Fault.REPLY_LOST})
    assert watched.sign(RetryingStore(faulty, sleep=lambda _: None)).number == 1
    assert names.checkpoint(2) not in watched.place.store.snapshot()
