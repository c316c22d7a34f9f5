"""Evidence: what a thief of a signer's key can sign breaks no reader, and two readers agree on it."""

from __future__ import annotations

import msgspec
import pytest

from donjon.codec.sign import SigningKey
from donjon.core.errors import IntegrityFailure
from donjon.format.evidence import Outcome, evidence_row
from donjon.repository.evidence import parse_alone, sign_evidence
from donjon.repository.records import auditor_record
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
