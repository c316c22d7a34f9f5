"""Evidence: what a thief of a signer's key can sign breaks no reader, and two readers agree on it."""

from __future__ import annotations

import msgspec
import pytest

from donjon.codec.sign import SigningKey
from donjon.core.errors import IntegrityFailure
from donjon.format.evidence import Outcome, evidence_row
from donjon.format.verdict import lift_row, mark_row
from donjon.repository.evidence import parse_alone, sign_evidence
from donjon.repository.records import auditor_record
from donjon.repository.verdicts import statements
from tests import second_reader
from tests.approving import Council
from tests.fuzz.fuzzing import changed_bytes, changed_values, fuzz

ROWS = (
    evidence_row("delete a version", "refused", "refused", Outcome.PASSED, answer="403 AccessDenied"),
    evidence_row("shorten a lock", "refused", "accepted", Outcome.FAILED),
)


def test_evidence() -> None:
    council, key = Council.make(0), SigningKey(bytes(range(32)))
    vault = council.open()
    vault.keyring.add(
        vault.store, council.root, lambda n, p: auditor_record(key.public, "e", vault.secret, 1, n, p), None
    )
    good = sign_evidence(vault, key, kind="attack-drill", program="p 1", subject="s3://b", rows=ROWS).data

    def parse_signed(data: bytes) -> None:
        """Both readers take it, or neither does."""
        try:
            ours = parse_alone(data, "hostile", vault.vault_id).evidence
        except IntegrityFailure:
            with pytest.raises(second_reader.Wrong):
                second_reader.read_evidence(data, vault.vault_id)
            return
        theirs = second_reader.read_evidence(data, vault.vault_id)
        assert (ours.has_passed, ours.kind, ours.created_at) == (theirs.passed, theirs.kind, theirs.created)

    def parse(payload: bytes) -> None:
        head = good[:8] + len(payload).to_bytes(4, "little") + payload
        parse_signed(head + key.sign(b"donjon/v1/object\0" + vault.vault_id + head))

    assert fuzz(parse_signed, changed_bytes([good]))
    assert fuzz(parse, changed_values([msgspec.msgpack.decode(good[12:-64])]))


def test_verdicts() -> None:
    """Both readers see the same marks and lifts, whatever texts an auditor signs."""
    rows = (mark_row(bytes(32), bytes(16), bytes(228)), lift_row(bytes(32), bytes([1]) * 32, b"\1"))
    seeds = ["\n".join((row.tried, row.seen, row.answer)).encode() for row in rows]
    council, key = Council.make(0), SigningKey(bytes(range(32)))
    vault = council.open()
    vault.keyring.add(
        vault.store, council.root, lambda n, p: auditor_record(key.public, "e", vault.secret, 1, n, p), None
    )
    seen: set[int] = set()

    def parse(data: bytes) -> None:
        tried, seen_text, answer = [*data.decode(errors="replace").split("\n"), "", ""][:3]
        made = [evidence_row(tried, "clean", seen_text, one, answer=answer) for one in Outcome]
        signed = sign_evidence(vault, key, kind="verdict", program="p 1", subject="s", rows=made)
        said = [(one.point_id, one.lifts, one.reason) for one in statements(signed)]
        assert said == second_reader.verdict(second_reader.read_evidence(signed.data, vault.vault_id))
        seen.add(len(said))

    for seed in seeds:
        parse(seed)
    assert seen == {1, 2}  # what failed marks, whatever it says; what passed has to lift something
    assert fuzz(parse, changed_bytes(seeds))
    assert 0 in seen
