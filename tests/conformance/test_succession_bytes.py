"""A succession made by hand from ``docs/format.md``, section 27, is one; and ours have those bytes."""

from __future__ import annotations

import hashlib
import struct

import msgspec
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from donjon.codec.sign import SigningKey
from donjon.core.errors import IntegrityFailure
from donjon.format.objects import ObjectKind, pack_object, parse_object, verify_object
from donjon.format.succession import MAX_SUCCESSIONS, Succession, check_proof, make_succession

VAULT = bytes(range(16))
OLD, NEW = bytes(range(32)), bytes(range(32, 64))
AT = 1_800_000_000


def _public(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


WRITER = blake3(_public(OLD)).digest()[:16]


def by_hand(number: int = 1, previous: bytes = bytes(32)) -> bytes:
    proven = VAULT + WRITER + struct.pack("<Q", number) + previous + _public(NEW)
    proof = Ed25519PrivateKey.from_private_bytes(NEW).sign(b"donjon/v1/succession\0" + proven)
    payload = msgspec.msgpack.encode([WRITER, number, previous, AT, _public(NEW), proof])
    header = b"DNJN" + bytes([13, 1, 0, 0]) + struct.pack("<I", len(payload))
    signed = b"donjon/v1/object\0" + VAULT + header + payload
    return header + payload + Ed25519PrivateKey.from_private_bytes(OLD).sign(signed)


def test_the_bytes_of_a_succession() -> None:
    data = by_hand()
    found = _check(data)
    ours = make_succession(VAULT, WRITER, 1, bytes(32), AT, SigningKey(NEW))
    assert found == ours
    assert pack_object(ObjectKind.SUCCESSION, ours, VAULT, SigningKey(OLD)) == data
    assert (
        hashlib.sha256(data).hexdigest() == "935e8bd4169d0749727b5eebdfef9eddb698e7359996e7bc5ab86b398e5a0ae5"
    )


@pytest.mark.parametrize(
    ("number", "previous"), [(0, bytes(32)), (MAX_SUCCESSIONS + 1, bytes(32)), (1, b"short")]
)
def test_values_out_of_bounds_are_refused(number: int, previous: bytes) -> None:
    with pytest.raises(IntegrityFailure):
        parse_object(by_hand(number, previous), ObjectKind.SUCCESSION, Succession, "x")


def test_every_flipped_byte_is_found() -> None:
    data = by_hand()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises(IntegrityFailure):
            _check(bytes(changed))


def _check(data: bytes) -> Succession:
    found = parse_object(data, ObjectKind.SUCCESSION, Succession, "x")
    verify_object(data, VAULT, _public(OLD), "x")
    check_proof(found, VAULT, "x")
    return found
