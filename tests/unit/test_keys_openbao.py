"""Addresses and tokens of OpenBao, and servers that do not answer as they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from donjon.core.errors import CredentialsRejected, KeyNotAvailable, KeyServiceUnavailable, UsageError
from donjon.format.vault import secret_info
from donjon.keys.address import service_recipient
from donjon.keys.openbao import OpenBaoKey, TransitKey, find_token
from donjon.keys.services import parse_address
from donjon.testing.servers.ports import free_port

KEY = TransitKey("https://bao.example:8200", "team/transit", "donjon")
RECIPIENT = service_recipient(KEY, "k", 1)
INFO = secret_info(bytes(16))
SEAL = b"vault:v1:AAAA"


class Transit:
    """Answers as told."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.secrets = self.transit = self

    def decrypt_data(self, **_: Any) -> Any:
        return self.answer


def test_an_address_is_read_as_it_is_written() -> None:
    uri = "openbao:https://bao.example:8200/team/transit/donjon"
    assert parse_address(uri) == KEY
    assert KEY.uri == uri
    assert TransitKey.of(RECIPIENT) == KEY


@pytest.mark.parametrize(
    "address",
    [
        "https://bao.example:8200/key",
        "https://bao.example:8200/transit/",
        "https://bao.example:8200/transit/../key",
        "https://bao.example:8200/transit/key?x=1",
        "https://bao.example:8200/transit/key#x",
        "https://user:password@bao.example:8200/transit/key",
        "http://bao.example:8200/transit/key",
        "ftp://bao.example/transit/key",
        "transit/key",
        "https:///transit/key",
        "https://bao.example:8200/transit/k%2fey",
    ],
)
def test_odd_addresses_are_refused(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(f"openbao:{address}")
    assert "openbao:https://HOST" in caught.value.hint


def test_the_token_is_found_where_the_tools_keep_it(tmp_path: Path) -> None:
    (tmp_path / ".vault-token").write_text("of the file\n")
    home = {"HOME": str(tmp_path)}
    assert find_token(home) == "of the file"
    assert find_token(home | {"VAULT_TOKEN": "v"}) == "v"
    assert find_token(home | {"VAULT_TOKEN": "v", "BAO_TOKEN": "b"}) == "b"
    assert find_token({"HOME": str(tmp_path / "nowhere")}) is None
    nothing = {"HOME": str(tmp_path / "nowhere"), "BAO_ADDR": KEY.address}
    with pytest.raises(CredentialsRejected, match="no token"):
        OpenBaoKey(RECIPIENT, nothing).open(SEAL, INFO)


@pytest.mark.parametrize(
    "told", ["", "https://bao.example", "http://bao.example:8200", "https://bao.example:8200/x"]
)
def test_a_token_goes_to_the_server_that_the_host_names_and_to_no_other(told: str) -> None:
    """The address is the vault's, which may be a stranger's."""
    environment = {"BAO_ADDR": told, "BAO_TOKEN": "t"} if told else {"BAO_TOKEN": "t"}
    with pytest.raises(CredentialsRejected, match="is not the server") as caught:
        OpenBaoKey(RECIPIENT, environment).open(SEAL, INFO)
    assert "BAO_ADDR=https://bao.example:8200" in caught.value.hint


def test_a_server_that_is_not_there_may_be_tried_again() -> None:
    key = TransitKey(f"http://127.0.0.1:{free_port()}", "transit", "k")
    environment = {"BAO_TOKEN": "t", "VAULT_ADDR": f"{key.address}/"}
    with pytest.raises(KeyServiceUnavailable):
        OpenBaoKey(service_recipient(key, "k", 1), environment).open(SEAL, INFO)


@pytest.mark.parametrize("answer", [{}, {"data": {}}, {"data": None}, "odd"])
def test_an_answer_without_what_was_asked_for_is_none(answer: Any) -> None:
    with pytest.raises(KeyNotAvailable):
        OpenBaoKey(RECIPIENT, {}, lambda: Transit(answer)).open(SEAL, INFO)


@pytest.mark.parametrize("plaintext", ["%", "AAA", 7, None])
def test_a_secret_that_is_none_does_not_open(plaintext: Any) -> None:
    with pytest.raises(KeyNotAvailable):
        OpenBaoKey(RECIPIENT, {}, lambda: Transit({"data": {"plaintext": plaintext}})).open(SEAL, INFO)
