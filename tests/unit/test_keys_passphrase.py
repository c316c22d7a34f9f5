from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from argon2.exceptions import HashingError
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.core.errors import IntegrityFailure, KeyNotAvailable, UnsupportedVersion, UsageError
from donjon.keys import argon2id
from donjon.keys.argon2id import Argon, Cost
from donjon.keys.base import KIT
from donjon.keys.passphrase import DEFAULT_COST, create, passphrase_from_file, unlock

CHEAP = Cost(memory_kib=8 * 1024, passes=1, lanes=1)
PASSPHRASE = "pass phrase"
RECIPIENT = create("on call", PASSPHRASE, created_at=5, cost=CHEAP)
FIELDS: list[Any] = msgspec.msgpack.decode(RECIPIENT.extra)


def _with(at: int, value: object) -> bytes:
    return msgspec.msgpack.encode([*FIELDS[:at], value, *FIELDS[at + 1 :]])


def test_a_wrong_passphrase_does_not_open() -> None:
    for wrong in ("pass phrasE", " pass phrase", "pass phrase\n"):
        with pytest.raises(KeyNotAvailable) as caught:
            unlock(RECIPIENT, wrong)
        assert caught.value.exit_code == 13
        assert RECIPIENT.recipient_id.hex() in caught.value.message
        assert wrong.strip() not in caught.value.message


def test_composed_and_decomposed_accents_are_the_same_passphrase() -> None:
    recipient = create("x", "Zu\u0308rich", created_at=5, cost=CHEAP)
    assert unlock(recipient, "Z\u00fcrich").recipient_id == recipient.recipient_id


@pytest.mark.parametrize("bad", ["", "\udcff"])
def test_a_passphrase_must_be_text(bad: str) -> None:
    with pytest.raises(UsageError):
        create("x", bad, created_at=5, cost=CHEAP)
    with pytest.raises(UsageError):
        unlock(RECIPIENT, bad)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"secret", "secret"),
        (b"secret\n", "secret"),
        (b"secret\r\n", "secret"),
        (b"secret\n\n", "secret\n"),
        (b"secret\r", "secret\r"),
        (b" secret ", " secret "),
    ],
)
def test_one_newline_at_the_end_of_a_file_is_not_part_of_it(
    content: bytes, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(content)
    assert passphrase_from_file(path) == expected


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n", b"\xff\xfe", b"x" * (64 * 1024 + 1)])
def test_a_file_without_a_passphrase_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        passphrase_from_file(path)


def test_a_missing_passphrase_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyNotAvailable, match="nowhere"):
        passphrase_from_file(tmp_path / "nowhere")


def test_the_default_cost_is_at_least_what_rfc_9106_recommends() -> None:
    assert DEFAULT_COST.memory_kib >= 64 * 1024
    assert DEFAULT_COST.passes >= 3
    Argon(DEFAULT_COST, bytes(16)).check()


OUT_OF_BOUNDS = [
    (1, 8 * 1024 - 1),
    (1, 1024 * 1024 + 1),
    (1, 2**63),
    (1, -1),
    (2, 0),
    (2, 17),
    (3, 0),
    (3, 17),
    (4, bytes(15)),
    (4, bytes(17)),
    (5, bytes(111)),
    (5, bytes(113)),
    (0, 0),
    (0, -1),
    (0, "1"),
    (1, 8192.5),
    (4, None),
]


@pytest.mark.parametrize(("at", "value"), OUT_OF_BOUNDS)
def test_parameters_are_bounded_before_anything_is_allocated(
    at: int, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(argon2id, "hash_secret_raw", lambda *_, **__: pytest.fail("memory was allocated"))
    with pytest.raises(IntegrityFailure):
        unlock(replace(RECIPIENT, extra=_with(at, value)), PASSPHRASE)


def test_a_newer_version_is_refused_by_name() -> None:
    extra = msgspec.msgpack.encode([2, {"whatever": "it is"}])
    with pytest.raises(UnsupportedVersion, match="version 2"):
        unlock(replace(RECIPIENT, extra=extra), PASSPHRASE)


@pytest.mark.parametrize("extra", [RECIPIENT.extra + b"\0", msgspec.msgpack.encode([*FIELDS, 0]), b""])
def test_nothing_may_follow_the_fields(extra: bytes) -> None:
    with pytest.raises(IntegrityFailure):
        unlock(replace(RECIPIENT, extra=extra), PASSPHRASE)


@pytest.mark.parametrize(
    "cost", [replace(CHEAP, memory_kib=1024), replace(CHEAP, passes=0), replace(CHEAP, lanes=99)]
)
def test_a_cost_that_no_reader_accepts_is_not_written(cost: Cost) -> None:
    with pytest.raises(UsageError):
        create("x", PASSPHRASE, created_at=5, cost=cost)


def test_the_cost_and_the_public_key_cannot_be_swapped() -> None:
    other = create("other", PASSPHRASE, created_at=5, cost=CHEAP)
    swapped = [
        replace(RECIPIENT, extra=_with(2, 2)),
        replace(RECIPIENT, extra=other.extra),
        replace(RECIPIENT, public=other.public),
        replace(RECIPIENT, public=other.public, recipient_id=other.recipient_id),
    ]
    for forged in swapped:
        with pytest.raises(KeyNotAvailable):
            unlock(forged, PASSPHRASE)


def test_a_private_key_of_somebody_else_is_refused() -> None:
    with pytest.raises(IntegrityFailure):
        unlock(replace(RECIPIENT, recipient_id=bytes(16)), PASSPHRASE)


def test_another_kind_is_refused() -> None:
    with pytest.raises(UsageError):
        unlock(replace(RECIPIENT, kind=KIT), PASSPHRASE)


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise HashingError

    monkeypatch.setattr(argon2id, "hash_secret_raw", fail)
    with pytest.raises(KeyNotAvailable, match="8 MiB"):
        unlock(RECIPIENT, PASSPHRASE)


def _hostile() -> st.SearchStrategy[bytes]:
    value = st.one_of(
        st.integers(-(2**63), 2**64 - 1),
        st.binary(max_size=120),
        st.none(),
        st.booleans(),
        st.text(max_size=3),
    )
    return st.one_of(
        st.binary(max_size=1200),
        st.lists(value, max_size=8).map(msgspec.msgpack.encode),
        st.tuples(st.integers(0, 5), value).map(lambda change: _with(*change)),
        st.tuples(st.integers(0, len(RECIPIENT.extra) - 1), st.integers(1, 255)).map(_flip),
    )


def _flip(change: tuple[int, int]) -> bytes:
    extra = bytearray(RECIPIENT.extra)
    extra[change[0]] ^= change[1]
    return bytes(extra)


@given(_hostile())
@settings(deadline=None)
def test_hostile_bytes_raise_our_errors_only(extra: bytes) -> None:
    if extra == RECIPIENT.extra:
        return
    with pytest.MonkeyPatch.context() as patch:
        # Costs within bounds are honest work, but this test has no time for a gibibyte.
        patch.setattr(argon2id, "hash_secret_raw", lambda *_, **__: bytes(32))
        with pytest.raises((IntegrityFailure, KeyNotAvailable, UnsupportedVersion)):
            unlock(replace(RECIPIENT, extra=extra), PASSPHRASE)


def test_deeply_nested_bytes_raise_our_errors_only() -> None:
    for extra in (b"\x91" * 1000, b"\x96" + b"\x91" * 1000, b"\x91" * 1_000_000):
        with pytest.raises(IntegrityFailure):
            unlock(replace(RECIPIENT, extra=extra), PASSPHRASE)
