"""Addresses of tokens, and what a host has to say of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from donjon.core.errors import CredentialsRejected, DonjonError, KeyNotAvailable, UsageError
from donjon.format.vault import secret_info
from donjon.keys.address import service_recipient
from donjon.keys.pkcs11 import Pkcs11Key, TokenAddress
from donjon.keys.services import parse_address
from donjon.testing.servers.softhsm import SoftHsm

INFO = secret_info(bytes(16))


def test_an_address_is_read_as_it_is_written() -> None:
    address = TokenAddress("My token", "key;1=ü")
    assert address.uri == "pkcs11:token=My%20token;object=key%3B1%3D%C3%BC"
    assert parse_address(address.uri) == address
    assert parse_address("pkcs11:object=k;token=t") == TokenAddress("t", "k")
    assert TokenAddress.of(service_recipient(address, "k", 1)) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "token=t",
        "token=t;object=",
        "token=t;token=u;object=k",
        "token=t;object=k;object=l",
        "token=t;object=k?pin-value=secret-pin",
        "token=t;object=k;pin-value=secret-pin",
        "token=t;object=k;slot-id=1",
        "token=t;object=k%ff",
        "token=t;object=k%00",
        "token=t;object=%20k",
        "token=t;object=a b",
    ],
)
def test_odd_addresses_are_refused_and_show_no_pin(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(f"pkcs11:{address}")
    assert "pkcs11:token=LABEL" in caught.value.hint
    assert "secret-pin" not in caught.value.message + caught.value.hint


def _problem(environment: dict[str, str], label: str = "nowhere") -> DonjonError:
    key = Pkcs11Key(service_recipient(TokenAddress(label, "k"), "k", 1), environment)
    with pytest.raises(DonjonError) as caught:
        key.open(b"\x01" + bytes(88), INFO)
    return caught.value


def test_what_the_host_lacks_is_told(hsm: SoftHsm, tmp_path: Path) -> None:
    module = {"DONJON_PKCS11_MODULE": hsm.public_environment["DONJON_PKCS11_MODULE"]}
    nothing = _problem({})
    assert isinstance(nothing, UsageError)
    assert "DONJON_PKCS11_MODULE" in nothing.hint
    (tmp_path / "text").write_text("no library")
    for path in (tmp_path / "text", tmp_path / "nothing"):
        assert isinstance(_problem({"DONJON_PKCS11_MODULE": str(path)}), UsageError)
    missing = _problem(module)
    assert isinstance(missing, KeyNotAvailable)
    assert "nowhere" in missing.hint


def test_a_pin_that_is_wrong_or_missing_is_told_and_never_shown(hsm: SoftHsm, tmp_path: Path) -> None:
    token = hsm.tokens[-1]
    module = {"DONJON_PKCS11_MODULE": hsm.public_environment["DONJON_PKCS11_MODULE"]}
    (tmp_path / "pin").write_text("wrong-secret\n")
    wrong = _problem(module | {"DONJON_PKCS11_PIN_FILE": str(tmp_path / "pin")}, token)
    assert isinstance(wrong, CredentialsRejected)
    assert "wrong-secret" not in wrong.message + wrong.hint
    unreadable = _problem(module | {"DONJON_PKCS11_PIN_FILE": str(tmp_path / "nothing")}, token)
    assert isinstance(unreadable, CredentialsRejected)
    assert "DONJON_PKCS11_PIN_FILE" in _problem(module, token).hint
