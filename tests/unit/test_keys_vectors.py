"""Fixed keys that every release must read, and a second reader written from ``docs/keys.md`` alone.

``keys.json`` was made once with version 1: private keys, seeds and ids are counting bytes, everything
random was drawn then. It is never made again, since a file that is made from the code proves nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
import unicodedata
from pathlib import Path
from typing import Any

import msgspec
import pytest
from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from shamir_mnemonic import combine_mnemonics

from donjon.codec import hpke, sign
from donjon.keys import kit_text
from donjon.keys.base import PASSPHRASE, PrivateKeyOpener, Recipient, recipient_id
from donjon.keys.passphrase import unlock
from donjon.keys.recovery import RecoveryKit, read_kit
from donjon.keys.shares import join, read_share

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "keys.json").read_text())
SHARES = pytest.mark.parametrize("row", VECTORS["shares"], ids=[row["kit"] for row in VECTORS["shares"]])
KITS = pytest.mark.parametrize("row", VECTORS["kits"], ids=[row["name"] for row in VECTORS["kits"]])


def _hex(row: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(row[name]) for name in names]


# --- Donjon reads what it once wrote --------------------------------------------------------------


def test_a_sealed_secret_opens() -> None:
    row = VECTORS["sealed"]
    private, public, info, secret, sealed = _hex(row, "private", "public", "info", "secret", "sealed")
    key = hpke.PrivateKey.from_bytes(private)
    assert key.public.to_bytes() == public
    assert recipient_id(public).hex() == row["recipient_id"] == PrivateKeyOpener(key).recipient_id.hex()
    assert key.open(sealed, info) == secret


def test_a_signature_is_made_again() -> None:
    seed, public, message, signature = _hex(VECTORS["signature"], "seed", "public", "message", "signature")
    assert sign.SigningKey(seed).public == public
    assert sign.SigningKey(seed).sign(message) == signature
    sign.verify(public, message, signature)


@KITS
@pytest.mark.parametrize("form", ["text", "qr"])
def test_a_kit_is_read(row: dict[str, Any], form: str) -> None:
    text = row["qr"] if form == "qr" else "\n".join(row["text"])
    kit = read_kit(text, lambda: str(row["passphrase"]))
    assert kit == RecoveryKit(
        vault_id=bytes.fromhex(row["vault_id"]),
        vault_name=row["vault_name"],
        vault_url=row["vault_url"],
        created_at=row["created_at"],
        opening_key=bytes.fromhex(row["opening_private"]),
        root_seed=bytes.fromhex(row["root_seed"]) if row["root_seed"] else None,
    )
    assert kit.fingerprint == row["fingerprint"]
    info, secret, sealed = _hex(VECTORS["sealed"], "info", "secret", "sealed")
    assert kit.opener().open(sealed, info) == secret


@KITS
def test_the_qr_code_says_what_the_block_says(row: dict[str, Any]) -> None:
    assert kit_text.to_qr(kit_text.to_payload("\n".join(row["text"]), "kit")) == row["qr"]


@pytest.mark.parametrize("form", ["passphrase", "passphrase_decomposed"])
def test_a_passphrase_opens(form: str) -> None:
    row = VECTORS["passphrase"]
    ident, public, extra, info, secret, sealed = _hex(
        row, "recipient_id", "public", "extra", "info", "secret", "sealed"
    )
    recipient = Recipient(ident, PASSPHRASE, "on call", public, 0, extra)
    assert unlock(recipient, row[form]).open(sealed, info) == secret


@SHARES
@pytest.mark.parametrize("form", ["text", "qr"])
def test_shares_are_joined(row: dict[str, Any], form: str) -> None:
    kit = next(kit for kit in VECTORS["kits"] if kit["name"] == row["kit"])
    texts = [share["qr"] if form == "qr" else "\n".join(share["text"]) for share in row["shares"]]
    for start in range(len(texts)):
        chosen = [texts[(start + step) % len(texts)] for step in range(row["needed"])]
        assert join([read_share(text) for text in chosen]).text == "\n".join([*kit["text"], ""])


# --- A second reader, written from the specification ----------------------------------------------


def _open(private: bytes, sealed: bytes, info: bytes) -> bytes:
    ct_m, ct_x, ciphertext = sealed[:1088], sealed[1088:1120], sealed[1120:]
    x25519 = X25519PrivateKey.from_private_bytes(private[64:])
    ss_m = MLKEM768PrivateKey.from_seed_bytes(private[:64]).decapsulate(ct_m)
    ss_x = x25519.exchange(X25519PublicKey.from_public_bytes(ct_x))
    public = x25519.public_key().public_bytes_raw()
    shared = hashlib.sha3_256(ss_m + ss_x + ct_x + public + bytes.fromhex("5c2e2f2f5e5c")).digest()
    suite = b"HPKE" + bytes.fromhex("647a00010002")

    def extract(salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.digest(salt, b"HPKE-v1" + suite + label + ikm, "sha256")

    def expand(prk: bytes, label: bytes, context: bytes, length: int) -> bytes:
        labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context
        return hmac.digest(prk, labelled + b"\1", "sha256")[:length]

    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    key, nonce = expand(secret, b"key", context, 32), expand(secret, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, ciphertext, b"")


def _argon(passphrase: str, argon: bytes) -> AESGCM:
    memory_kib, passes, lanes = struct.unpack_from("<III", argon)
    secret = unicodedata.normalize("NFC", passphrase).encode()
    return AESGCM(hash_secret_raw(secret, argon[12:], passes, memory_kib, lanes, 32, Type.ID, 0x13))


def _take_kit(payload: bytes, passphrase: str | None) -> dict[str, Any]:
    body, checksum = payload[:-8], payload[-8:]
    assert blake3(body).digest(8) == checksum
    version, flags, vault_id, created_at, mark = struct.unpack_from("<BB16sQ15s", body)
    assert version == 1
    at = 41
    name, at = body[at + 1 : at + 1 + body[at]], at + 1 + body[at]
    (length,) = struct.unpack_from("<H", body, at)
    url, at = body[at + 2 : at + 2 + length], at + 2 + length
    secret = body[at:]
    if flags & 2:
        assert passphrase is not None
        argon, sealed = body[at : at + 28], body[at + 28 :]
        aad = b"donjon/v1/recovery-kit\0" + body[: at + 28]
        secret = _argon(passphrase, argon).decrypt(bytes(12), sealed, aad)
    assert len(secret) == (128 if flags & 1 else 96)
    return {
        "vault_id": vault_id.hex(),
        "vault_name": name.decode(),
        "vault_url": url.decode(),
        "created_at": created_at,
        "opening_private": secret[:96].hex(),
        "root_seed": secret[96:].hex() or None,
        "fingerprint": "-".join(base64.b32encode(mark).decode()[i : i + 4] for i in range(0, 24, 4)),
    }


def _unb32(chars: str) -> bytes:
    return base64.b32decode(chars + "=" * (-len(chars) % 8))


def _take_block(text: list[str]) -> bytes:
    block = text[text.index("-----BEGIN DONJON RECOVERY KIT-----") + 1 : -1]
    payload = b""
    for number, line in enumerate(block, start=1):
        shown, *groups, check = line.split()
        data = _unb32("".join(groups))
        assert int(shown) == number
        assert base64.b32encode(blake3(bytes([number]) + data).digest())[:4].decode() == check
        payload += data
    return payload


def test_a_second_reader_opens_a_sealed_secret() -> None:
    private, info, secret, sealed = _hex(VECTORS["sealed"], "private", "info", "secret", "sealed")
    assert _open(private, sealed, info) == secret


@KITS
def test_a_second_reader_reads_a_kit(row: dict[str, Any]) -> None:
    prefix, version, chars = row["qr"].split(":")
    assert (prefix, version) == ("DONJON-KIT", "1")
    for payload in (_unb32(chars), _take_block(row["text"])):
        found = _take_kit(payload, row["passphrase"])
        assert found == {name: row[name] for name in found}


def test_a_second_reader_opens_a_passphrase_recipient() -> None:
    row = VECTORS["passphrase"]
    public, extra, info, secret, sealed = _hex(row, "public", "extra", "info", "secret", "sealed")
    version, memory_kib, passes, lanes, salt, box = msgspec.msgpack.decode(extra)
    assert (version, len(salt), len(box)) == (1, 16, 112)
    argon = struct.pack("<III", memory_kib, passes, lanes) + salt
    aad = b"donjon/v1/passphrase-recipient\0" + public + argon
    private = _argon(row["passphrase"], argon).decrypt(bytes(12), box, aad)
    assert _open(private, sealed, info) == secret


@SHARES
def test_a_second_reader_joins_shares(row: dict[str, Any]) -> None:
    """With a program that knows SLIP-39 alone, and the text about the sealed kit."""
    kit = next(kit for kit in VECTORS["kits"] if kit["name"] == row["kit"])
    scanned = [share["qr"].split(":") for share in row["shares"]]
    assert {tuple(parts[:2]) for parts in scanned} == {("DONJON-SHARE", "1")}
    key = combine_mnemonics([parts[3].replace("-", " ").lower() for parts in scanned[-row["needed"] :]])
    (payload,) = {_unb32(parts[2]) for parts in scanned}
    body, checksum = payload[:-8], payload[-8:]
    assert blake3(body).digest()[:8] == checksum
    version, flags, _, needed, count, split = struct.unpack_from("<BBHBBQ", body)
    assert (version, flags, needed, count) == (1, 0, row["needed"], len(scanned))
    assert split == 1_795_500_000
    wanted = _unb32(kit["qr"].split(":")[2])[:-8]
    secret_bytes = 96 + (32 if kit["root_seed"] else 0) + (16 if kit["passphrase"] else 0)
    front, sealed = body[: -secret_bytes - 16], body[-secret_bytes - 16 :]
    secret = AESGCM(key).decrypt(bytes(12), sealed, b"donjon/v1/recovery-share\0" + front)
    assert front[14:] + secret == wanted
