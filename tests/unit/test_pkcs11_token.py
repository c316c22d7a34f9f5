"""Names of keys on tokens, and the files that hold PINs."""

from __future__ import annotations

from pathlib import Path

import pytest

from donjon.core.errors import KeyNotAvailable, UsageError
from donjon.keys.pkcs11 import TokenAddress
from donjon.keys.pkcs11_token import parse_key, pin_from_file


@pytest.mark.parametrize(
    ("uri", "token", "label"),
    [
        ("pkcs11:token=ann;object=donjon", "ann", "donjon"),
        ("pkcs11:object=my%20key;token=bo%3Bb", "bo;b", "my key"),
        ("pkcs11:token=Z%C3%BCrich;object=%3D", "Zürich", "="),
    ],
)
def test_a_uri_names_token_and_object(uri: str, token: str, label: str) -> None:
    assert parse_key(uri) == TokenAddress(token, label)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "pkcs11:",
        "PKCS12:token=ann;object=x",
        "pkcs11:token=ann",
        "pkcs11:object=donjon",
        "pkcs11:token=ann;object=",
        "pkcs11:token=ann;token=bo;object=x",
        "pkcs11:token=ann;object=%FF",
        "pkcs11:token=ann;object=x;slot-id=0",
        "pkcs11:token=ann;object=x?module-path=/x.so",
    ],
)
def test_uris_that_name_no_key_are_refused(uri: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_key(uri)
    assert "pkcs11:token=LABEL;object=LABEL" in error.value.hint


def test_a_pin_in_a_uri_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as error:
        parse_key("pkcs11:token=ann;object=x?pin-value=hunter2")
    assert "hunter2" not in error.value.message + error.value.hint


def test_a_pin_is_the_first_line_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("a b\nc\n")
    assert pin_from_file(tmp_path / "pin") == "a b"
    for content in (b"", b"\n", b"\xff\n"):
        (tmp_path / "pin").write_bytes(content)
        with pytest.raises(KeyNotAvailable):
            pin_from_file(tmp_path / "pin")
    with pytest.raises(KeyNotAvailable):
        pin_from_file(tmp_path / "none")
