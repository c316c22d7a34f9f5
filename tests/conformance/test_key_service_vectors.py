"""Fixed examples of ``docs/format.md``, "Key services", made again from the text alone and by Donjon."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap_with_padding

from donjon.core.errors import KeyNotAvailable
from donjon.keys.address import service_recipient
from donjon.keys.aws_kms import encryption_context
from donjon.keys.info import unbound
from donjon.keys.services import parse_address, read_address

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "key-services.json").read_text())


@pytest.mark.parametrize("case", VECTORS["recipients"], ids=lambda case: case["kind"])
def test_recipients(case: dict[str, Any]) -> None:
    extra = bytes.fromhex(case["extra"])
    assert msgspec.msgpack.decode(extra) == [1, *case["fields"]]
    named = b"donjon/v1/key-service\0" + case["kind"].encode() + b"\0" + extra
    assert blake3(named).digest()[:16].hex() == case["id"]
    made = service_recipient(parse_address(case["uri"]), "k", 1)
    assert (made.kind, made.extra, made.recipient_id.hex()) == (case["kind"], extra, case["id"])
    assert read_address(made).uri == case["uri"]


@pytest.mark.parametrize("case", VECTORS["infos"], ids=lambda case: case["aws_context"]["donjon:purpose"])
def test_contexts(case: dict[str, Any]) -> None:
    info = bytes.fromhex(case["info"])
    head, _, rest = info.partition(b"\0")
    context = {"donjon:vault": rest[:16].hex(), "donjon:purpose": head.decode().removeprefix("donjon/v1/")}
    if len(rest) > 16:
        (number,) = struct.unpack("<Q", rest[32:])
        context["donjon:session"] = f"{rest[16:32].hex()}/{number:08}"
    assert context == case["aws_context"] == encryption_context(info)


def test_bound_secrets() -> None:
    case = {name: bytes.fromhex(value) for name, value in VECTORS["bound"].items()}
    wrapped = case["salt"] + blake3(case["info"]).digest() + case["secret"]
    assert wrapped == case["wrapped"]
    assert aes_key_unwrap_with_padding(case["aes_key"], case["pkcs11_seal"][1:]) == wrapped
    assert case["pkcs11_seal"][0] == 1
    assert unbound(wrapped, case["info"], "") == case["secret"]
    for changed in (wrapped[:-1], wrapped + b"\0", b"", wrapped[:16] + bytes(32) + wrapped[48:]):
        with pytest.raises(KeyNotAvailable):
            unbound(changed, case["info"], "")
    with pytest.raises(KeyNotAvailable):
        unbound(wrapped, case["info"][:-1] + b"\1", "")
