"""An epoch object made by hand from ``docs/format.md``, section 23, is one; and ours have those bytes."""

from __future__ import annotations

import struct

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from donjon.codec.sign import SigningKey
from donjon.format.epoch import Epoch
from donjon.format.manifest import Use
from donjon.format.objects import ObjectKind, pack_object, parse_object, verify_object

VAULT = bytes(range(16))
SEED = bytes(range(32))
ADA, BOB = b"A" * 16, b"B" * 16


def by_hand() -> bytes:
    fields = [
        ADA,
        7,
        1_800_000_000,
        1_802_000_000,
        [[ADA, 3, b"\x05"], [BOB, 1, b"\x00\x80"]],
        ["index/x", "vault"],
    ]
    payload = msgspec.msgpack.encode(fields)
    header = b"DNJN" + bytes([9, 1, 0, 0]) + struct.pack("<I", len(payload))
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    return header + payload + key.sign(b"donjon/v1/object\0" + VAULT + header + payload)


def test_the_bytes_of_an_epoch() -> None:
    data = by_hand()
    epoch = parse_object(data, ObjectKind.EPOCH, Epoch, "epochs/00000007")
    verify_object(data, VAULT, SigningKey(SEED).public, "epochs/00000007")
    assert [list(use.ordinals()) for use in epoch.packs] == [[0, 2], [15]]
    ours = Epoch(
        ADA,
        7,
        1_800_000_000,
        1_802_000_000,
        (Use(ADA, 3, b"\x05"), Use(BOB, 1, b"\x00\x80")),
        ("index/x", "vault"),
    )
    assert epoch == ours
    assert pack_object(ObjectKind.EPOCH, ours, VAULT, SigningKey(SEED)) == data
