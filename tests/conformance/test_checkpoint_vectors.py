"""Fixed examples of custodians and checkpoints, with which Donjon and the second reader agree.

``checkpoint.json`` was made once, from counting bytes, and is never made again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from donjon.codec.digest import digest, short_id
from donjon.codec.sign import SigningKey
from donjon.core.errors import IntegrityFailure
from donjon.format.checkpoint import Checkpoint
from donjon.format.objects import ObjectKind, pack_object, parse_object, verify_object
from donjon.format.vault import KeyringRecord, VaultObject
from donjon.repository.keyring import Keyring
from tests import second_reader
from tests.conformance.test_format_vectors import fields_of, value_of

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "checkpoint.json").read_text(encoding="ascii")
)
VAULT_ID = bytes.fromhex(VECTORS["vault_id"])
SEEDS = {name: bytes.fromhex(seed) for name, seed in VECTORS["seeds"].items()}
OBJECTS = {row["name"]: bytes.fromhex(row["object"]) for row in VECTORS["objects"]}
CHECKPOINTS = [name for name in OBJECTS if name.startswith("checkpoints/")]
KINDS: dict[str, tuple[ObjectKind, type[msgspec.Struct], str]] = {
    "vault": (ObjectKind.VAULT, VaultObject, "root"),
    "keyring": (ObjectKind.KEYRING, KeyringRecord, "root"),
    "checkpoints": (ObjectKind.CHECKPOINT, Checkpoint, "custodian"),
}


@pytest.mark.parametrize("row", VECTORS["objects"], ids=list(OBJECTS))
def test_objects(row: dict[str, Any]) -> None:
    kind, payload, signer = KINDS[row["name"].partition("/")[0]]
    data, fields = OBJECTS[row["name"]], value_of(row["fields"])
    parsed = parse_object(data, kind, payload, row["name"])
    public = bytes.fromhex(row["public"])
    verify_object(data, VAULT_ID, public, row["name"])
    assert fields_of(parsed) == fields
    key = SigningKey(SEEDS[signer])
    assert key.public == public
    assert pack_object(kind, parsed, VAULT_ID, key) == data
    second_reader.check_signature(public, VAULT_ID, data)


def test_the_keyring_with_custodians() -> None:
    vault = parse_object(OBJECTS["vault"], ObjectKind.VAULT, VaultObject, "vault")
    keyring, seen = Keyring(vault, digest(OBJECTS["vault"])), second_reader.Keyring()
    previous = OBJECTS["vault"]
    for name, data in OBJECTS.items():
        if not name.startswith("keyring/"):
            continue
        keyring.apply(data, name)
        shape = second_reader._RECORD_SHAPE
        seen.apply(second_reader.parse(second_reader.KEYRING, data, shape), digest(previous))
        previous = data
    assert keyring.head.hex() == VECTORS["keyring_head"]
    assert {who: custodian.public for who, custodian in keyring.custodians.items()} == seen.custodians
    revoked = {who for who, custodian in keyring.custodians.items() if custodian.revoked_at is not None}
    assert revoked == seen.revoked_custodians
    assert len(revoked) == 1
    assert list(keyring.writers) == list(seen.writers) == [short_id(SigningKey(SEEDS["writer"]).public)]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(name: str) -> None:
    data = OBJECTS[name]
    ours = parse_object(data, ObjectKind.CHECKPOINT, Checkpoint, name)
    theirs = second_reader.read_checkpoint(data)
    assert (ours.custodian, ours.number, ours.previous) == theirs[:3]
    assert (ours.created_at, (ours.keyring_number, ours.head)) == theirs[3:5]
    assert {chain.writer: (chain.last, chain.head) for chain in ours.chains} == theirs.ends
    rows = [row for chain in ours.chains for row in chain.rows()]
    assert [tuple(row) for row in rows] == [tuple(point[1:]) for point in theirs.points]
    told = VECTORS["rows"][name]
    assert [[*row[:3], row.point_id.hex()] for row in rows] == told


def test_checkpoints_follow_each_other() -> None:
    first, second = (OBJECTS[name] for name in CHECKPOINTS)
    found = parse_object(second, ObjectKind.CHECKPOINT, Checkpoint, "second")
    assert found.previous == digest(first)


def _with_chain(**changes: object) -> bytes:
    name = CHECKPOINTS[0]
    good = parse_object(OBJECTS[name], ObjectKind.CHECKPOINT, Checkpoint, name)
    fields = fields_of(good)
    for position, value in changes.items():
        fields[6][0][int(position[1:])] = value
    payload = msgspec.msgpack.encode(fields)
    return OBJECTS[name][:8] + len(payload).to_bytes(4, "little") + payload + bytes(64)


@pytest.mark.parametrize(
    "changes",
    [
        {"c3": bytes(51)},
        {"c1": 2},  # a row beyond the last sequence
        {"c2": bytes(32)},  # the last row is not the head
        {"c3": bytes(52)},  # sequence 0
        {"c3": (1).to_bytes(4, "little") + b"\xff" * 8 + bytes(40)},  # beyond year 9999
        {"c0": bytes(15)},
    ],
)
def test_impossible_chains_are_refused_by_both_readers(changes: dict[str, object]) -> None:
    data = _with_chain(**changes)
    with pytest.raises(IntegrityFailure):
        parse_object(data, ObjectKind.CHECKPOINT, Checkpoint, "hostile")
    with pytest.raises(second_reader.Wrong):
        second_reader.read_checkpoint(data)
