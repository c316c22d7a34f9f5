"""Evidence: who may sign it, when it counts, and what a hostile store or a thief makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from donjon.codec.digest import digest, short_id
from donjon.codec.sign import SigningKey
from donjon.core.errors import IntegrityFailure, KeyNotAvailable, StoreUnavailable
from donjon.core.events import Silent
from donjon.format import names
from donjon.format.evidence import Evidence, EvidenceRow, Outcome, evidence_row, passed
from donjon.format.objects import ObjectKind, pack_object, parse_object
from donjon.format.vault import Action
from donjon.repository.check import check_structure
from donjon.repository.evidence import (
    SignedEvidence,
    Standing,
    judge_file,
    list_evidence,
    parse_alone,
    parse_evidence,
    put_evidence,
    sign_evidence,
)
from donjon.repository.records import auditor_record, custodian_record, removal_record, writer_record
from donjon.repository.vault import Vault, open_vault
from donjon.testing.faulty import Fault, FaultyStore
from tests import second_reader
from tests.approving import Council

DAY = 86_400
ROW = evidence_row("delete a version", "refused", "refused", Outcome.PASSED, answer="403 AccessDenied")
BAD = evidence_row("shorten a lock", "refused", "accepted", Outcome.FAILED)
NOT = evidence_row("delete the bucket", "refused", "not tried", Outcome.SKIPPED)
RECORDS = {
    "writer": (writer_record, Action.REVOKE_WRITER),
    "custodian": (custodian_record, Action.REVOKE_CUSTODIAN),
    "auditor": (auditor_record, Action.REVOKE_AUDITOR),
}


@dataclass
class Place:
    """A vault with one who signs."""

    council: Council
    key: SigningKey
    role: str

    @classmethod
    def make(cls, role: str = "auditor", *, lock_s: int = 30 * DAY) -> Place:
        place = cls(Council.make(0, lock_s=lock_s), SigningKey.generate(), role)
        vault, record = place.council.open(), RECORDS[role][0]
        now = vault.store.now()
        vault.keyring.add(
            vault.store,
            place.council.root,
            lambda n, p: record(place.key.public, "eve", vault.secret, now, n, p),
            vault.lock_end(),
        )
        return place

    def vault(self) -> Vault:
        return open_vault(self.council.store)

    def sign(self, *rows: EvidenceRow) -> SignedEvidence:
        return sign_evidence(
            self.vault(), self.key, kind="attack-drill", program="p 1", subject="s3://b", rows=rows or [ROW]
        )

    def revoke(self) -> None:
        vault, now = self.council.open(), self.council.clock()
        vault.keyring.add(
            vault.store,
            self.council.root,
            lambda n, p: removal_record(RECORDS[self.role][1], short_id(self.key.public), now, n, p),
            None,
        )

    def forged(self, key: SigningKey | None = None, **changes: Any) -> bytes:
        """Evidence that says something else, signed by ``key``."""
        evidence = msgspec.structs.replace(self.sign().evidence, **changes)
        vault_id = self.council.kit.vault_id
        return pack_object(ObjectKind.EVIDENCE, evidence, vault_id, key or self.key)

    def listed(self) -> tuple[list[SignedEvidence], list[IntegrityFailure]]:
        damaged: list[IntegrityFailure] = []
        return list_evidence(self.vault(), damaged), damaged


@pytest.mark.parametrize("role", RECORDS)
def test_whoever_the_root_key_certified_signs_and_anybody_can_check(role: str) -> None:
    place = Place.make(role)
    signed = place.sign(ROW, NOT)
    name = put_evidence(place.vault(), signed)
    assert put_evidence(place.vault(), signed) == name
    held = place.council.store.head(name).retain_until
    assert held is not None
    assert held >= place.council.clock() + 30 * DAY
    (found,), damaged = place.listed()
    assert (found.evidence, found.standing, damaged) == (signed.evidence, Standing.COUNTS, [])
    assert found.evidence.created_at == place.council.clock()
    assert check_structure(place.vault(), Silent()).findings == []
    vault_id = place.council.kit.vault_id
    assert parse_alone(signed.data, "file", vault_id).standing is Standing.ALONE
    other = second_reader.read_evidence(signed.data, vault_id)
    assert (other.signer, other.created) == (short_id(place.key.public), place.council.clock())
    assert (other.kind, other.program, other.subject, other.passed) == ("attack-drill", "p 1", "s3://b", True)
    assert other.rows == [list(msgspec.to_builtins(row)) for row in (ROW, NOT)]


def test_one_failure_fails_it_and_nothing_tried_proves_nothing() -> None:
    assert passed((ROW, NOT))
    assert not passed((ROW, BAD))
    assert not passed((NOT,))


def test_a_stranger_and_a_revoked_one_sign_nothing() -> None:
    place = Place.make()
    place.revoke()
    with pytest.raises(KeyNotAvailable, match="or not any more"):
        place.sign()
    place.key = SigningKey.generate()
    with pytest.raises(KeyNotAvailable):
        place.sign()


def test_what_was_there_before_the_revocation_counts_and_nothing_else() -> None:
    place = Place.make()
    before, handed_on = place.sign(), place.sign(ROW, NOT)
    unseen = place.forged(created_at=1)
    put_evidence(place.vault(), before)
    place.council.clock.advance(10)
    place.revoke()
    place.council.clock.advance(10)
    place.council.store.put(names.evidence(handed_on.digest), handed_on.data)  # what its thief does
    found, damaged = place.listed()
    standings = {one.digest: one.standing for one in found}
    assert (standings, damaged) == (
        {before.digest: Standing.COUNTS, handed_on.digest: Standing.LATE},
        [],
    )
    (finding,) = check_structure(place.vault(), Silent()).findings
    assert (finding.kind, finding.object) == ("suspicious", names.evidence(handed_on.digest))
    for signed in (before, handed_on):
        assert judge_file(place.vault(), signed.data, "file").standing is standings[signed.digest]
    assert judge_file(place.vault(), unseen, "file").standing is Standing.LATE


def _stranger(place: Place) -> bytes:
    return place.forged(SigningKey.generate())


def _own_certification(place: Place) -> bytes:
    """A thief certifies himself, with a root key of his own."""
    other = Place.make()
    signed = other.sign().evidence
    return place.forged(
        other.key,
        signer=signed.signer,
        certification=signed.certification,
        root_public=place.council.root.public,
    )


def _other_vault(place: Place) -> bytes:
    return Place.make().sign().data


def _other_record(place: Place) -> bytes:
    """A record about the same id, which the root key signed too, but which certifies nobody."""
    vault = place.council.open()
    record = removal_record(Action.REMOVE_RECIPIENT, short_id(place.key.public), 0, 3, vault.keyring.head)
    certification = pack_object(ObjectKind.KEYRING, record, vault.vault_id, place.council.root)
    return place.forged(certification=certification)


def _other_signer(place: Place) -> bytes:
    return place.forged(signer=bytes(16))


def _changed(place: Place) -> bytes:
    return place.sign().data.replace(b"refused", b"refuse!", 1)


@pytest.mark.parametrize(
    "forge", [_stranger, _own_certification, _other_vault, _other_record, _other_signer, _changed]
)
def test_forged_evidence_proves_nothing(forge: Callable[[Place], bytes]) -> None:
    place = Place.make()
    data = forge(place)
    with pytest.raises(IntegrityFailure, match="file"):
        parse_evidence(place.vault(), data, "file")
    with pytest.raises(IntegrityFailure, match="file"):
        parse_alone(data, "file", place.council.kit.vault_id)
    with pytest.raises(second_reader.Wrong):
        second_reader.read_evidence(data, place.council.kit.vault_id)
    name = names.evidence(digest(data))
    place.council.store.put(name, data)
    found, damaged = place.listed()
    assert found == []
    assert [error.message.startswith(name) for error in damaged] == [True]
    findings = check_structure(place.vault(), Silent()).findings
    assert [(finding.kind, finding.object) for finding in findings] == [("damaged", name)]


def test_a_store_that_hides_the_certification_is_found() -> None:
    place = Place.make()
    signed = place.sign()
    place.council.clock.advance(60 * DAY)
    place.council.store.delete_expired(names.keyring(place.vault().keyring.number))
    with pytest.raises(IntegrityFailure, match="no keyring record certifies"):
        parse_evidence(place.vault(), signed.data, "file")


def test_another_name_is_another_object() -> None:
    place = Place.make()
    place.council.store.put(names.evidence(bytes(32)), place.sign().data)
    found, (error,) = place.listed()
    assert found == []
    assert "holds another object" in error.message


def test_a_lost_reply_and_two_signers_at_once() -> None:
    place = Place.make()
    first, second = place.sign(), place.sign(ROW, NOT)
    vault = place.vault()
    vault.store = FaultyStore(place.council.store, {1: Fault.REPLY_LOST})
    with pytest.raises(StoreUnavailable):
        put_evidence(vault, first)
    for signed in (first, second, first):
        put_evidence(vault, signed)
    assert len(place.listed()[0]) == 2


def test_texts_are_made_to_fit() -> None:
    row = evidence_row("a" * 300, "tab\there", "\x1b[31mred", Outcome.SKIPPED, answer="\u00fc" * 400)
    assert (len(row.tried), row.expected, row.seen) == (200, "tab here", " [31mred")
    assert len(row.answer.encode()) <= 500
    for wrong in ({"tried": "a\nb"}, {"seen": "a" * 201}, {"answer": "\x9b"}):
        with pytest.raises(ValueError, match="impossible"):
            msgspec.structs.replace(ROW, **wrong)


def test_the_payload_is_read_as_it_was_written() -> None:
    signed = Place.make().sign(ROW, BAD, NOT)
    assert parse_object(signed.data, ObjectKind.EVIDENCE, Evidence, "e") == signed.evidence
    assert not signed.evidence.has_passed
