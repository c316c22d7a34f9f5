"""Which points are suspect: who may say so, what lifts it, and what thieves and hostile stores make of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from donjon.app.verdicts.seen import SeenVerdicts
from donjon.codec.sign import SigningKey
from donjon.core.errors import IntegrityFailure, KeyNotAvailable, NotApproved
from donjon.format import names
from donjon.format.approval import SuspectUse, decode_request
from donjon.format.evidence import EvidenceRow, Outcome, evidence_row
from donjon.format.vault import Action
from donjon.format.verdict import KIND, lift_row, mark_row, read_row
from donjon.repository.approving import check_suspect_use
from donjon.repository.evidence import SignedEvidence, put_evidence, sign_evidence
from donjon.repository.records import auditor_record, custodian_record, removal_record, writer_record
from donjon.repository.vault import Vault, open_vault
from donjon.repository.verdicts import read_verdicts, standing_marks
from donjon.stores.base import ObjectInfo
from donjon.stores.observe import ObservingStore
from donjon.stores.wrapper import StoreWrapper
from tests.approving import Council, key_id

ONE, TWO = bytes([1]) * 32, bytes([2]) * 32
MAKERS = {
    "writer": (writer_record, Action.REVOKE_WRITER),
    "custodian": (custodian_record, Action.REVOKE_CUSTODIAN),
    "auditor": (auditor_record, Action.REVOKE_AUDITOR),
}


@dataclass
class Bench:
    """A vault, and one of each who signs evidence."""

    council: Council = field(default_factory=lambda: Council.make(3, 2))
    keys: dict[str, SigningKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for role in MAKERS:
            self.add(role, role)

    def vault(self) -> Vault:
        return open_vault(self.council.store)

    def add(self, name: str, role: str) -> None:
        vault, key = self.council.open(), SigningKey.generate()
        now = vault.store.now()
        make = MAKERS[role][0]
        vault.keyring.add(
            vault.store, self.council.root, lambda n, p: make(key.public, name, vault.secret, now, n, p), None
        )
        self.keys[name] = key

    def revoke(self, name: str, role: str) -> None:
        vault, now = self.council.open(), self.council.clock()
        subject = key_id(self.keys[name])
        vault.keyring.add(
            vault.store,
            self.council.root,
            lambda n, p: removal_record(MAKERS[role][1], subject, now, n, p),
            None,
        )

    def signed(self, who: str, *rows: EvidenceRow, kind: str = KIND) -> SignedEvidence:
        vault = self.vault()
        return sign_evidence(vault, self.keys[who], kind=kind, program="p 1", subject="s", rows=rows)

    def say(self, who: str, *rows: EvidenceRow, kind: str = KIND) -> bytes:
        """Sign and put it; the digest."""
        signed = self.signed(who, *rows, kind=kind)
        put_evidence(self.vault(), signed)
        return signed.digest

    def mark(self, who: str = "auditor", *points: bytes) -> bytes:
        return self.say(who, *(mark_row(point, os.urandom(16), b"") for point in points or (ONE,)))

    def suspects(self) -> set[bytes]:
        vault, damaged = self.vault(), list[IntegrityFailure]()
        shown, _ = read_verdicts(vault, damaged, {})
        assert damaged == []
        return set(standing_marks(vault, shown))


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(("who", "counts"), [("auditor", True), ("custodian", True), ("writer", False)])
def test_auditors_and_custodians_mark_and_lift_and_writers_do_neither(
    bench: Bench, who: str, counts: bool
) -> None:
    bench.mark(who, TWO)
    assert bench.suspects() == ({TWO} if counts else set())
    mark = bench.mark("auditor", ONE)
    bench.say(who, lift_row(ONE, mark, b""))
    assert (ONE in bench.suspects()) is not counts


def test_each_mark_has_to_be_lifted_for_its_own_point(bench: Bench) -> None:
    both, one = bench.mark("auditor", ONE, TWO), bench.mark("custodian", ONE)
    bench.say("auditor", lift_row(ONE, both, b""))
    assert bench.suspects() == {ONE, TWO}  # the other mark stands
    bench.say("auditor", lift_row(TWO, one, b""))  # which never marked that point
    assert bench.suspects() == {ONE, TWO}
    bench.say("auditor", lift_row(ONE, one, b""), lift_row(TWO, both, b""))
    assert bench.suspects() == set()


def test_a_lift_that_is_put_once_more_lifts_no_later_mark(bench: Bench) -> None:
    """Nor do times matter: the store may say that the lift came last."""
    mark = bench.mark()
    lift = bench.signed("auditor", lift_row(ONE, mark, b""))
    put_evidence(bench.vault(), lift)
    assert bench.suspects() == set()
    bench.mark()  # in the same second
    bench.council.store.delete_expired(names.evidence(lift.digest))
    bench.council.clock.advance(60)
    put_evidence(bench.vault(), lift)
    assert bench.suspects() == {ONE}


def test_only_what_was_there_before_the_revocation_counts(bench: Bench) -> None:
    bench.add("thief", "auditor")
    mark = bench.mark("auditor", ONE)
    early = bench.mark("thief", TWO)
    false_mark = bench.signed("thief", mark_row(bytes([3]) * 32, bytes(16), b""))
    false_lift = bench.signed("thief", lift_row(ONE, mark, b""))
    bench.council.clock.advance(1)
    bench.revoke("thief", "auditor")
    bench.council.clock.advance(1)
    for late in (false_mark, false_lift):
        put_evidence(bench.vault(), late)
    assert bench.suspects() == {ONE, TWO}
    bench.say("auditor", lift_row(TWO, early, b""))
    assert bench.suspects() == {ONE}


def test_other_evidence_and_rows_that_say_nothing(bench: Bench) -> None:
    mark = mark_row(ONE, bytes(16), b"")
    bench.say("auditor", mark, kind="attack-drill")
    texts = [("point 12", "suspect"), (f"point {ONE.hex().upper()}Z", "suspect"), ("points", "suspect")]
    rows = [evidence_row(tried, "clean", seen, Outcome.FAILED) for tried, seen in texts]
    skipped = evidence_row(mark.tried, "clean", "suspect", Outcome.SKIPPED)
    vague = evidence_row(mark.tried, "clean", "clean", Outcome.PASSED)
    bench.say("auditor", *rows, skipped, vague)
    assert [read_row(row) for row in (*rows, skipped, vague)] == [None] * 5
    assert bench.suspects() == set()


def test_a_finding_of_a_later_donjon_marks_too(bench: Bench) -> None:
    bench.say("auditor", evidence_row(f"point {ONE.hex()}", "clean", "infected: EICAR", Outcome.FAILED))
    assert bench.suspects() == {ONE}


def test_rubbish_among_evidence_hides_no_mark(bench: Bench) -> None:
    bench.mark()
    bench.council.store.put(names.evidence(bytes(32)), b"rubbish")
    damaged: list[IntegrityFailure] = []
    shown, _ = read_verdicts(bench.vault(), damaged, {})
    assert set(standing_marks(bench.vault(), shown)) == {ONE}
    assert len(damaged) == 1


# --- what a host remembers ----------------------------------------------------------------------------


class Hiding(StoreWrapper):
    """Shows no evidence."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (info for info in super().list(prefix) if not info.name.startswith(names.EVIDENCE))


def test_a_store_that_hides_a_mark_lifts_it_for_nobody_who_saw_it(bench: Bench, tmp_path: Path) -> None:
    bench.mark()
    vault = bench.vault()
    seen = SeenVerdicts(tmp_path, vault)
    shown, missing = read_verdicts(vault, [], seen.read())
    assert missing == []
    seen.keep(shown)
    seen.keep(shown)  # once more changes nothing
    hiding = open_vault(Hiding(bench.council.store))
    kept = SeenVerdicts(tmp_path, hiding).read()
    shown, missing = read_verdicts(hiding, [], kept)
    assert ([], set(kept)) == (shown, {one.digest for one in missing})
    assert set(standing_marks(hiding, missing)) == {ONE}
    assert [one.stored_at for one in missing] == [bench.council.clock()]


def test_what_is_remembered_must_not_be_changed(bench: Bench, tmp_path: Path) -> None:
    bench.mark()
    seen = SeenVerdicts(tmp_path, bench.vault())
    seen.keep(read_verdicts(bench.vault(), [], {})[0])
    (file,) = (tmp_path / "pins").rglob("*.verdicts/*")
    data = file.read_bytes()
    for wrong in (data[:-1] + bytes([data[-1] ^ 1]), data[:20], b""):
        file.write_bytes(wrong)
        with pytest.raises(KeyNotAvailable, match="cannot be read") as error:
            seen.read()
        assert "suspect" in error.value.hint


# --- approvals ----------------------------------------------------------------------------------------

MARKS = (bytes([8]) * 32, bytes([9]) * 32)


def _use(*marks: bytes, point: bytes = ONE) -> SuspectUse:
    return SuspectUse(bytes(16), 1, point, marks)


def test_an_approval_is_for_one_point_and_the_marks_that_approvers_saw(bench: Bench) -> None:
    council = bench.council
    asked = council.ask(_use(*MARKS))
    signed = council.signed(asked.payload, *council.members[:2])
    for present in (MARKS, MARKS[:1], MARKS[1:]):
        found = check_suspect_use(council.open(), asked, signed, ONE, present)
        assert set(found) == set(signed)
        assert check_suspect_use(council.open(), asked, signed, ONE, present)  # as often as one likes
    for point, marks in ((TWO, MARKS), (ONE, (*MARKS, TWO)), (ONE, (TWO,))):
        with pytest.raises(NotApproved, match="not about this point"):
            check_suspect_use(council.open(), asked, signed, point, marks)


def test_too_few_too_late_and_forged_signatures_allow_nothing(bench: Bench) -> None:
    council = bench.council
    asked = council.ask(_use(*MARKS), life_s=3600)
    with pytest.raises(NotApproved, match="1 of the 2"):
        check_suspect_use(
            council.open(), asked, council.signed(asked.payload, council.members[0]), ONE, MARKS
        )
    signed = council.signed(asked.payload, *council.members[:2])
    other = council.ask(_use(*MARKS))  # with another nonce, or end
    with pytest.raises(IntegrityFailure):
        check_suspect_use(council.open(), other, signed, ONE, MARKS)
    elsewhere = council.signed(asked.payload, *council.members[:2], vault_id=bytes(16))
    with pytest.raises(IntegrityFailure):
        check_suspect_use(council.open(), asked, elsewhere, ONE, MARKS)
    council.clock.advance(3601)
    with pytest.raises(NotApproved, match="expired"):
        check_suspect_use(council.open(), asked, signed, ONE, MARKS)


@pytest.mark.parametrize(
    ("marks", "point"),
    [((), ONE), (MARKS[::-1], ONE), (MARKS[:1] * 2, ONE), ((b"short",), ONE), (MARKS, b"short")],
)
def test_parameters_that_none_can_have(bench: Bench, marks: tuple[bytes, ...], point: bytes) -> None:
    payload = msgspec.msgpack.decode(bench.council.ask(_use(*MARKS)).payload)
    payload[1] = msgspec.msgpack.encode([bytes(16), 1, point, marks])
    with pytest.raises(IntegrityFailure):
        decode_request(msgspec.msgpack.encode(payload), "hostile")
    many = tuple(number.to_bytes(32) for number in range(101))
    payload[1] = msgspec.msgpack.encode([bytes(16), 1, ONE, many])
    with pytest.raises(IntegrityFailure):
        decode_request(msgspec.msgpack.encode(payload), "hostile")


def test_other_evidence_is_read_only_once(bench: Bench, tmp_path: Path) -> None:
    bench.mark()
    bench.say("auditor", evidence_row("delete", "refused", "refused", Outcome.PASSED), kind="drill")
    counted = ObservingStore(bench.council.store)
    vault = open_vault(counted)
    seen = SeenVerdicts(tmp_path, vault)
    others = seen.read_others()
    shown, _ = read_verdicts(vault, [], {}, others)
    assert len(others) == len(shown) == 1
    seen.keep_others(others)
    before = counted.report()["get"].calls
    again, _ = read_verdicts(vault, [], {one.digest: one for one in shown}, seen.read_others())
    assert [one.digest for one in again] == [one.digest for one in shown]
    assert counted.report()["get"].calls == before
