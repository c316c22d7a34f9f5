from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donjon.codec import hpke, sign
from donjon.core.errors import IntegrityFailure, KeyNotAvailable

# RFC 8032, section 7.1, test 2.
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_signs_as_the_rfc_does() -> None:
    key = sign.SigningKey(SEED)
    assert key.public == PUBLIC
    assert key.sign(b"\x72") == SIGNATURE
    assert key.seed == SEED
    sign.verify(PUBLIC, b"\x72", SIGNATURE)


def test_generated_signing_keys_differ_and_hide_their_seed() -> None:
    one, two = sign.SigningKey.generate(), sign.SigningKey.generate()
    assert one.public != two.public
    assert one.seed.hex() not in repr(one)


@given(
    public=st.just(PUBLIC) | st.binary(max_size=40),
    message=st.binary(max_size=4),
    signature=st.just(SIGNATURE) | st.binary(max_size=80),
)
def test_a_signature_that_is_not_there_is_refused(public: bytes, message: bytes, signature: bytes) -> None:
    if (public, message, signature) == (PUBLIC, b"\x72", SIGNATURE):
        return
    with pytest.raises(IntegrityFailure, match="the manifest"):
        sign.verify(public, message, signature, what="the manifest")


def test_sizes_are_those_of_the_format() -> None:
    key = hpke.PrivateKey.generate()
    assert (len(key.to_bytes()), len(key.public.to_bytes())) == (96, 1216)
    assert len(hpke.seal(key.public, bytes(32), b"info")) == 1168 == 32 + hpke.OVERHEAD_BYTES


def test_keys_survive_their_bytes() -> None:
    key = hpke.PrivateKey.generate()
    again = hpke.PrivateKey.from_bytes(key.to_bytes())
    assert again.public == hpke.PublicKey.from_bytes(key.public.to_bytes()) == key.public
    assert hash(again.public) == hash(key.public)
    assert hpke.open(again, hpke.seal(key.public, b"secret", b"info"), b"info") == b"secret"


def test_repr_hides_the_private_key() -> None:
    key = hpke.PrivateKey.generate()
    for part in (key.to_bytes().hex()[:16], repr(key.to_bytes()[:8])[2:-1]):
        assert part not in repr(key)


@pytest.mark.parametrize("length", [0, 95, 97])
def test_private_keys_have_one_length(length: int) -> None:
    with pytest.raises(IntegrityFailure):
        hpke.PrivateKey.from_bytes(bytes(length))


@pytest.mark.parametrize("data", [b"", bytes(1215), bytes(1217), b"\xff" * 1216])
def test_public_keys_are_checked(data: bytes) -> None:
    with pytest.raises(IntegrityFailure):
        hpke.PublicKey.from_bytes(data)


def test_nothing_is_sealed_to_a_point_of_small_order() -> None:
    public = hpke.PrivateKey.generate().public.to_bytes()[:1184] + bytes(32)
    with pytest.raises(IntegrityFailure):
        hpke.PublicKey.from_bytes(public).seal(bytes(32), b"info")


def test_a_sealed_secret_with_a_point_of_small_order_does_not_open() -> None:
    key = hpke.PrivateKey.generate()
    sealed = bytearray(key.public.seal(bytes(32), b"info"))
    sealed[1088:1120] = bytes(32)
    with pytest.raises(KeyNotAvailable):
        key.open(bytes(sealed), b"info")
