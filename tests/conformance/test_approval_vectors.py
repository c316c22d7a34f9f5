"""Fixed examples of approvers, requests and certificates, with which Donjon and the second reader agree.

``approvals.json`` was made once, from ``docs/format.md`` with plain libraries alone, and is never made again.
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
from donjon.core.events import Silent
from donjon.format import names
from donjon.format.approval import (
    Approval,
    KeyringChange,
    approval_message,
    decode_approval,
    decode_request,
    encode_request,
    pack_request,
    pack_signature,
)
from donjon.format.approvers import decode_approvers
from donjon.format.certificate import (
    CertificatePayload,
    decode_deletion,
    pack_certificate,
    parse_certificate,
)
from donjon.format.objects import ObjectKind, pack_object, parse_object, verify_object
from donjon.format.vault import KeyringRecord, VaultObject, VaultSecret
from donjon.repository.approvals import read_request, read_signatures
from donjon.repository.approvers import approved_record, first_record
from donjon.repository.certificates import deleted_points
from donjon.repository.check import check_structure
from donjon.repository.keyring import Keyring
from donjon.repository.vault import open_vault
from donjon.stores.memory import MemoryStore
from donjon.testing.clock import ManualClock
from tests import second_reader
from tests.conformance.test_format_vectors import fields_of, value_of

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "approvals.json").read_text(encoding="ascii")
)
VAULT_ID = bytes.fromhex(VECTORS["vault_id"])
KEYS = {name: SigningKey(bytes.fromhex(seed)) for name, seed in VECTORS["seeds"].items()}
OBJECTS = {row["name"]: bytes.fromhex(row["object"]) for row in VECTORS["objects"]}
FIELDS = {row["name"]: value_of(row["fields"]) for row in VECTORS["objects"]}
RECORDS = [name for name in OBJECTS if name.startswith("keyring/")]
BOTH = (1, len(RECORDS))
BY_ID = {second_reader.id16(key.public): key for key in KEYS.values()}
#: When the store received everything, in Unix seconds.
STORED_AT = 1_800_000_000
REQUESTS = [row for row in VECTORS["objects"] if row["name"].endswith("/request")]
CERTIFICATES = [row for row in VECTORS["objects"] if row["name"].startswith("certificates/")]
EACH = pytest.mark.parametrize("row", CERTIFICATES, ids=[row["name"][:20] for row in CERTIFICATES])


def _store(records: int) -> MemoryStore:
    """The vault with so many keyring records and all certificates."""
    store = MemoryStore(ManualClock(STORED_AT))
    for name, data in OBJECTS.items():
        if name not in RECORDS[records:]:
            store.put(name, data)
    return store


def _second_keyring(records: int) -> second_reader.Keyring:
    keyring = second_reader.Keyring(root=KEYS["root"].public)
    previous = OBJECTS["vault"]
    for name in RECORDS[:records]:
        record = second_reader.parse(second_reader.KEYRING, OBJECTS[name], second_reader._RECORD_SHAPE)
        keyring.apply(record, digest(previous), digest(OBJECTS[name]))
        previous = OBJECTS[name]
    return keyring


@pytest.mark.parametrize("name", RECORDS)
def test_records_have_these_bytes(name: str) -> None:
    record = parse_object(OBJECTS[name], ObjectKind.KEYRING, KeyringRecord, name)
    verify_object(OBJECTS[name], VAULT_ID, KEYS["root"].public, name)
    assert fields_of(record) == FIELDS[name]
    assert pack_object(ObjectKind.KEYRING, record, VAULT_ID, KEYS["root"]) == OBJECTS[name]
    if record.number == 1:
        chosen = decode_approvers(record.extra, name)
        assert first_record(chosen, record.created_at, 1, record.previous) == record


@pytest.mark.parametrize("name", [RECORDS[3], RECORDS[4]])
def test_approvals_in_records_have_these_bytes(name: str) -> None:
    record = parse_object(OBJECTS[name], ObjectKind.KEYRING, KeyringRecord, name)
    approval = decode_approval(record.extra, name)
    assert approval.encode() == record.extra
    request, change = decode_request(approval.request, name)
    assert isinstance(change, KeyringChange)
    again = encode_request(
        change, request.asked_by, request.created_at, request.expires_at, request.nonce, request.reason
    )
    assert msgspec.msgpack.encode(again) == approval.request
    signatures = {
        who: BY_ID[who].sign(approval_message(VAULT_ID, approval.request)) for who in approval.by_id
    }
    made = approved_record(
        change,
        Approval.of(approval.request, signatures),
        record.created_at,
        record.number,
        record.previous,
    )
    assert made == record


@pytest.mark.parametrize("records", BOTH)
def test_both_readers_see_the_same_approvers(records: int) -> None:
    ours = open_vault(_store(records)).keyring
    theirs = _second_keyring(records).approvers
    assert ours.approvers is not None
    assert theirs is not None
    assert sorted(who.hex() for who in ours.approvers.members) == VECTORS["approvers"][records != 1]
    assert {who: one.public for who, one in ours.approvers.members.items()} == theirs.keys
    assert ours.approvers.needed == theirs.m == 2
    assert ours.approvers.record == theirs.record
    if records == len(RECORDS):
        assert ours.head.hex() == VECTORS["keyring_head"]


@pytest.mark.parametrize(("records", "at"), [(3, 0), (4, 1)])
def test_both_readers_see_the_same_recipients(records: int, at: int) -> None:
    ours, theirs = open_vault(_store(records)).keyring.members, _second_keyring(records).recipients
    assert [who.hex() for who in ours] == [who.hex() for who in theirs] == VECTORS["recipients"][at]


@pytest.mark.parametrize("row", REQUESTS, ids=[row["name"][:20] for row in REQUESTS])
def test_requests_and_their_signatures_have_these_bytes(row: dict[str, Any]) -> None:
    name, data = row["name"], OBJECTS[row["name"]]
    vault = open_vault(_store(1))
    request = read_request(vault, name)
    assert name == names.approval_request(digest(data)) == names.approval_request(request.request_id)
    assert fields_of(request.content) == FIELDS[name]
    assert pack_request(request.content, VAULT_ID, BY_ID[request.content.asked_by]) == data
    theirs = second_reader.asked(name, data, _second_keyring(1))
    assert fields_of(request.parameters) == theirs.parameters
    assert (theirs.operation, theirs.expires) == (request.content.operation, request.content.expires_at)
    signatures = read_signatures(vault, request, [])
    assert sorted(who.hex() for who in signatures) == row["signed"]
    for who, signature in signatures.items():
        place = names.approver_signature(request.request_id, who)
        assert pack_signature(request.request_id, who, signature) == OBJECTS[place]
        assert second_reader.signed(place, OBJECTS[place], data, _second_keyring(1)) == who
    wrong = [found for found in check_structure(vault, Silent()).findings if "approvals/" in found.object]
    assert wrong == []


def test_names_of_approvers_are_hidden_with_the_vault_secret() -> None:
    secret = VaultSecret(bytes.fromhex(VECTORS["vault_secret"]))
    approvers = open_vault(_store(1)).keyring.approvers
    assert approvers is not None
    shown = {secret.read_label(one.label, "x"): one.public for one in approvers.members.values()}
    assert shown == {name: KEYS[name].public for name in ("ann", "bo", "cy")}


@EACH
def test_certificates_have_these_bytes(row: dict[str, Any]) -> None:
    data, name = OBJECTS[row["name"]], row["name"]
    assert name == names.certificate(digest(data))
    payload = parse_object(data, ObjectKind.CERTIFICATE, CertificatePayload, name)
    assert fields_of(payload) == FIELDS[name]
    request_bytes, signatures = parse_certificate(data, name)
    request, deletion = decode_deletion(request_bytes, name)
    assert pack_certificate(request_bytes, signatures) == data
    assert [point.point_id.hex() for point in deletion.points] == row["points"]
    theirs = second_reader.read_certificate(data)
    assert (theirs.request.created, theirs.payload) == (request.created_at, request_bytes)
    assert [tuple(fields_of(point)) for point in deletion.points] == theirs.points
    assert dict(theirs.signatures) == signatures
    if row["reason"]:
        secret = VaultSecret(bytes.fromhex(VECTORS["vault_secret"]))
        assert secret.read_label(request.reason, name) == row["reason"]


@EACH
@pytest.mark.parametrize("records", BOTH)
def test_both_readers_agree_on_what_counts(row: dict[str, Any], records: int) -> None:
    store = _store(records)
    for other in CERTIFICATES:
        if other is not row:
            store.delete_expired(other["name"])
    expected = set(map(bytes.fromhex, row["points"])) if row["counts"][records != 1] else set()
    assert set(deleted_points(open_vault(store))) == expected
    keyring, data = _second_keyring(records), OBJECTS[row["name"]]
    if expected:
        assert second_reader.certified_points(row["name"], data, keyring, STORED_AT) == expected
    else:
        with pytest.raises(second_reader.Wrong):
            second_reader.certified_points(row["name"], data, keyring, STORED_AT)


def test_both_readers_refuse_a_certificate_that_came_too_late() -> None:
    row = next(row for row in CERTIFICATES if row["counts"] == [True, True])
    keyring, data = _second_keyring(len(RECORDS)), OBJECTS[row["name"]]
    store = _store(len(RECORDS))
    late = MemoryStore(ManualClock(STORED_AT + 8 * 86_400))
    for name in store.snapshot():
        late.put(name, store.get(name))
    assert deleted_points(open_vault(late)) == {}
    with pytest.raises(second_reader.Wrong):
        second_reader.certified_points(row["name"], data, keyring, STORED_AT + 8 * 86_400)


@pytest.mark.parametrize("records", [1, 4, 5])
def test_both_readers_refuse_every_changed_byte_of_a_list_or_an_approval(records: int) -> None:
    """The root key signs what it changed, as its thief could."""
    name = RECORDS[records - 1]
    vault = parse_object(OBJECTS["vault"], ObjectKind.VAULT, VaultObject, "vault")
    record = parse_object(OBJECTS[name], ObjectKind.KEYRING, KeyringRecord, name)
    refused = 0
    for at in range(0, len(record.extra), 3):
        extra = record.extra[:at] + bytes([record.extra[at] ^ 4]) + record.extra[at + 1 :]
        data = pack_object(
            ObjectKind.KEYRING, msgspec.structs.replace(record, extra=extra), VAULT_ID, KEYS["root"]
        )
        ours, theirs = Keyring(vault, digest(OBJECTS["vault"])), _second_keyring(records - 1)
        for before in RECORDS[: records - 1]:
            ours.apply(OBJECTS[before], before)
        row = second_reader.parse(second_reader.KEYRING, data, second_reader._RECORD_SHAPE)
        if _accepts(ours, data, name):
            theirs.apply(row, record.previous, digest(data))
            continue
        refused += 1
        with pytest.raises(second_reader.Wrong):
            theirs.apply(row, record.previous, digest(data))
    tried = len(range(0, len(record.extra), 3))
    assert refused == tried if records > 1 else 30 < refused < tried  # nobody signs the labels of the first


def _accepts(keyring: Keyring, data: bytes, name: str) -> bool:
    try:
        keyring.apply(data, name)
    except IntegrityFailure:
        return False
    return True
