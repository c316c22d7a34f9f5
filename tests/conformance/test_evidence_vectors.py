"""Fixed examples of auditors and evidence, with which Donjon and the second reader agree.

``evidence.json`` was made once, from counting bytes, and is never made again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from donjon.codec.digest import digest
from donjon.codec.sign import SigningKey
from donjon.core.errors import IntegrityFailure
from donjon.format import names
from donjon.format.evidence import Evidence
from donjon.format.objects import ObjectKind, pack_object, parse_object
from donjon.repository.evidence import Standing, list_evidence, parse_alone
from donjon.repository.vault import open_vault
from donjon.stores.memory import MemoryStore
from donjon.testing.clock import ManualClock
from tests import second_reader

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "evidence.json").read_text(encoding="ascii")
)
VAULT_ID = bytes.fromhex(VECTORS["vault_id"])
OBJECTS = {row["name"]: bytes.fromhex(row["object"]) for row in VECTORS["objects"]}
EACH = pytest.mark.parametrize("told", VECTORS["evidence"], ids=["passed", "failed"])
AUDITOR = SigningKey(bytes.fromhex(VECTORS["seeds"]["auditor"]))


@EACH
def test_evidence(told: dict[str, Any]) -> None:
    data = OBJECTS[told["name"]]
    assert told["name"] == names.evidence(digest(data))
    ours = parse_alone(data, "vector", VAULT_ID).evidence
    theirs = second_reader.read_evidence(data, VAULT_ID)
    assert ours.created_at == theirs.created == told["created"]
    assert ours.has_passed == theirs.passed == told["passed"]
    assert [list(msgspec.to_builtins(row)) for row in ours.rows] == theirs.rows == told["rows"]
    assert pack_object(ObjectKind.EVIDENCE, ours, VAULT_ID, AUDITOR) == data


@EACH
def test_no_byte_of_it_can_be_changed(told: dict[str, Any]) -> None:
    data = OBJECTS[told["name"]]
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(IntegrityFailure):
            parse_alone(changed, "vector", VAULT_ID)
        with pytest.raises(second_reader.Wrong):
            second_reader.read_evidence(changed, VAULT_ID)


def test_an_auditor_comes_and_goes() -> None:
    """What was there before the revocation counts, what came later does not."""
    clock = ManualClock(1_800_000_000)
    store = MemoryStore(clock)
    early, late = (told["name"] for told in VECTORS["evidence"])
    for name in ("vault", "keyring/00000001", early, "keyring/00000002"):
        store.put(name, OBJECTS[name])
    clock.advance(501)  # the revocation is of second 500
    store.put(late, OBJECTS[late])
    vault = open_vault(store)
    assert [auditor.revoked_at for auditor in vault.keyring.auditors.values()] == [1_800_000_500]
    damaged: list[IntegrityFailure] = []
    standings = {one.where: one.standing for one in list_evidence(vault, damaged)}
    assert (standings, damaged) == ({early: Standing.COUNTS, late: Standing.LATE}, [])
    seen, previous = second_reader.Keyring(), OBJECTS["vault"]
    for number in (1, 2):
        data = OBJECTS[names.keyring(number)]
        shape = second_reader._RECORD_SHAPE
        seen.apply(second_reader.parse(second_reader.KEYRING, data, shape), digest(previous))
        previous = data
    assert seen.auditors == {who: one.public for who, one in vault.keyring.auditors.items()}
    assert seen.revoked_auditors == set(seen.auditors)


def test_the_payload_has_the_fields_that_the_format_names() -> None:
    (told, _) = VECTORS["evidence"]
    data = OBJECTS[told["name"]]
    fields = msgspec.msgpack.decode(data[12:-64])
    assert [type(field) for field in fields] == [bytes, bytes, bytes, int, str, str, str, list]
    assert parse_object(data, ObjectKind.EVIDENCE, Evidence, "e").certification == fields[2]
