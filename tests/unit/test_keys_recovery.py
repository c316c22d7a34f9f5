from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.core.errors import (
    DonjonError,
    KeyNotAvailable,
    PermissionMissing,
    Refused,
    StoreFull,
    UnsupportedVersion,
    UsageError,
)
from donjon.keys import kit_payload, kit_text, recovery
from donjon.keys.argon2id import Cost
from donjon.keys.base import KIT, recipient_id
from donjon.keys.recovery import RecoveryKit, kit_to_text, read_kit, write_kit

CHEAP = Cost(memory_kib=8 * 1024, passes=1, lanes=1)
KIT_ONE = RecoveryKit.generate(
    vault_id=bytes(range(16)),
    vault_name="prod",
    vault_url="s3://b/p",
    created_at=1_795_428_000,
    with_root=True,
)
TEXT = kit_to_text(KIT_ONE)
PROTECTED = kit_to_text(KIT_ONE, "secret", cost=CHEAP)


def _payload(text: str = TEXT) -> bytes:
    return kit_text.to_payload(text, "kit")


def _resum(body: bytes) -> str:
    """The QR text of a payload that was changed by somebody who can compute checksums."""
    return kit_text.to_qr(body + blake3(body).digest(8))


# --- What a kit is --------------------------------------------------------------------------------


def test_a_kit_holds_the_root_key_or_not() -> None:
    assert KIT_ONE.root is not None
    assert KIT_ONE.root.seed == KIT_ONE.root_seed
    only = replace(KIT_ONE, root_seed=None)
    assert only.root is None
    assert only.fingerprint != KIT_ONE.fingerprint
    assert read_kit(kit_to_text(only)) == only


def test_the_recipient_is_its_public_half() -> None:
    recipient = KIT_ONE.recipient("safe in Bern")
    assert (recipient.kind, recipient.name, recipient.extra) == (KIT, "safe in Bern", b"")
    assert recipient.recipient_id == recipient_id(KIT_ONE.public) == KIT_ONE.opener().recipient_id


def test_repr_hides_the_keys() -> None:
    assert KIT_ONE.root_seed is not None
    for secret in (KIT_ONE.opening_key, KIT_ONE.root_seed):
        assert repr(secret)[2:-1] not in repr(KIT_ONE)
    assert "opening_key" not in repr(KIT_ONE)


@pytest.mark.parametrize(
    "change",
    [{"vault_id": bytes(15)}, {"opening_key": bytes(95)}, {"root_seed": b""}, {"root_seed": bytes(33)}],
)
def test_keys_have_their_lengths(change: dict[str, bytes]) -> None:
    with pytest.raises(UsageError):
        replace(KIT_ONE, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["", " x", "x ", "a\nb", "a\u202eb", "\udcff", "x" * 65, "ü" * 33])
def test_names_fit_on_their_line(bad: str) -> None:
    with pytest.raises(UsageError):
        kit_to_text(replace(KIT_ONE, vault_name=bad))
    with pytest.raises(UsageError):
        RecoveryKit.generate(vault_id=bytes(16), vault_name=bad, vault_url="x", created_at=0, with_root=False)


@pytest.mark.parametrize("created_at", [-1, 1 << 64])
def test_impossible_times_are_refused(created_at: int) -> None:
    with pytest.raises(UsageError):
        kit_to_text(replace(KIT_ONE, created_at=created_at))


# --- Files ----------------------------------------------------------------------------------------


def test_a_kit_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "kit"
    previous = os.umask(0)
    try:
        text = write_kit(path, KIT_ONE)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == text
    assert read_kit(path) == KIT_ONE


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "folder"])
def test_nothing_is_overwritten(kind: str, tmp_path: Path) -> None:
    path, other = tmp_path / "kit", tmp_path / "other"
    if kind == "folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("precious")
    else:
        path.symlink_to(other)
        if kind == "link":
            other.write_text("precious")
    with pytest.raises(Refused, match="never overwritten") as caught:
        write_kit(path, KIT_ONE)
    assert caught.value.hint
    assert kind != "file" or path.read_text() == "precious"
    assert other.exists() == (kind == "link")


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be created"):
        write_kit(tmp_path / "nowhere" / "kit", KIT_ONE)


def test_a_missing_permission_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", deny)
    with pytest.raises(PermissionMissing):
        write_kit(tmp_path / "kit", KIT_ONE)


def test_half_a_kit_is_never_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreFull, match="disk is full"):
        write_kit(tmp_path / "kit", KIT_ONE)
    assert not list(tmp_path.iterdir())


def test_a_file_system_that_cannot_sync_folders_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    write_kit(tmp_path / "kit", KIT_ONE)
    assert read_kit(tmp_path / "kit") == KIT_ONE


def test_a_kit_that_does_not_read_back_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "read_kit", lambda *_: replace(KIT_ONE, root_seed=None))
    with pytest.raises(DonjonError, match="read back"):
        write_kit(tmp_path / "kit", KIT_ONE)
    assert not list(tmp_path.iterdir())


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "nowhere", tmp_path, binary):
        with pytest.raises(KeyNotAvailable) as caught:
            read_kit(path)
        assert str(path) in caught.value.message
        assert caught.value.hint


@pytest.mark.parametrize("text", [TEXT, PROTECTED], ids=["open", "protected"])
def test_a_scanned_code_in_a_file_is_a_kit(text: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.txt"
    path.write_text(kit_text.to_qr(_payload(text)) + "\n")
    assert read_kit(path, lambda: "secret") == KIT_ONE


# --- Passphrases ----------------------------------------------------------------------------------


def test_a_protected_kit_needs_its_passphrase() -> None:
    assert read_kit(PROTECTED, lambda: "secret") == KIT_ONE
    with pytest.raises(KeyNotAvailable, match="protected by a passphrase"):
        read_kit(PROTECTED)
    with pytest.raises(KeyNotAvailable, match="does not open"):
        read_kit(PROTECTED, lambda: "Secret")


def test_an_open_kit_asks_for_nothing() -> None:
    assert read_kit(TEXT, lambda: pytest.fail("asked for a passphrase")) == KIT_ONE


def test_a_protected_kit_shows_no_key() -> None:
    assert KIT_ONE.root_seed is not None
    assert KIT_ONE.opening_key[:16] not in _payload(PROTECTED)
    assert KIT_ONE.root_seed not in _payload(PROTECTED)


def test_an_empty_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write_kit(tmp_path / "kit", KIT_ONE, "", cost=CHEAP)
    assert not list(tmp_path.iterdir())


def test_the_head_of_a_protected_kit_cannot_be_changed() -> None:
    body = _payload(PROTECTED)[:-8]
    for at in [*range(2, 41), body.index(b"s3://b/p")]:
        changed = bytearray(body)
        changed[at] ^= 1
        with pytest.raises(KeyNotAvailable):
            read_kit(_resum(bytes(changed)), lambda: "secret")


def test_a_hostile_cost_is_refused_before_memory_is_allocated() -> None:
    body = _payload(PROTECTED)[:-8]
    at = body.index(b"s3://b/p") + 8
    for cost in (b"\xff\xff\xff\xff", b"\0\0\0\0"):
        with pytest.raises(KeyNotAvailable, match="memory in KiB"):
            read_kit(_resum(body[:at] + cost + body[at + 4 :]), lambda: pytest.fail("asked"))


# --- Damage ---------------------------------------------------------------------------------------


def _lines(text: str = TEXT) -> list[str]:
    return text.splitlines()


def _block_start() -> int:
    return next(at for at, line in enumerate(_lines()) if line.startswith("-----BEGIN")) + 1


def test_a_mistyped_line_is_named() -> None:
    end = next(at for at, line in enumerate(_lines()) if line.startswith("-----END"))
    for offset in range(end - _block_start()):
        lines = _lines()
        at = _block_start() + offset
        lines[at] = lines[at][:3] + ("A" if lines[at][3] != "A" else "B") + lines[at][4:]
        with pytest.raises(KeyNotAvailable, match=f"line {offset + 1:02d} of its block") as caught:
            read_kit("\n".join(lines))
        assert "paper" in caught.value.hint


def test_missing_swapped_and_doubled_lines_are_named() -> None:
    at = _block_start() + 2
    missing, swapped, doubled = _lines(), _lines(), _lines()
    del missing[at]
    swapped[at], swapped[at + 1] = swapped[at + 1], swapped[at]
    doubled.insert(at, doubled[at - 1])
    for lines in (missing, swapped, doubled):
        with pytest.raises(KeyNotAvailable, match="line 03 of its block is missing"):
            read_kit("\n".join(lines))


def test_a_missing_last_line_is_found() -> None:
    lines = _lines()
    end = next(at for at, line in enumerate(lines) if line.startswith("-----END"))
    del lines[end - 1]
    with pytest.raises(KeyNotAvailable, match="checksum"):
        read_kit("\n".join(lines))


def test_a_changed_header_is_named() -> None:
    lines = _lines()
    at = next(at for at, line in enumerate(lines) if line.startswith("Address:"))
    lines[at] = "Address:     s3://attacker/p"
    with pytest.raises(KeyNotAvailable, match=f"line {at + 1} was changed: Address is 's3://b/p'"):
        read_kit("\n".join(lines))
    del lines[at]
    assert read_kit("\n".join(lines)) == KIT_ONE


def test_what_typing_and_mailing_do_to_a_text_is_forgiven() -> None:
    block = _lines()[_block_start() - 1 :]
    typed = ["", "Donjon Recovery Kit v1", *(block[0], *(line.lower() for line in block[1:-1]), block[-1])]
    typed = [line.replace("o", "0").replace("i", "1") if line[:1].isdigit() else line for line in typed]
    for text in ("\ufeff" + TEXT, TEXT.replace("\n", "\r\n"), TEXT.replace("\n", "\n\n"), "\n".join(typed)):
        assert read_kit(text) == KIT_ONE
    assert read_kit(TEXT.replace("\n", "  \n")) == KIT_ONE
    code = kit_text.to_qr(_payload()).lower()
    assert read_kit(f" {code[:99]}\n{code[99:]}\n") == KIT_ONE


@pytest.mark.parametrize(
    "text", ["", "hello", "donjon recovery kit v1", "DONJON-KIT:1:", "DONJON-KIT:1:A1!", "x" * 70_000]
)
def test_what_is_no_kit_is_said(text: str) -> None:
    with pytest.raises(KeyNotAvailable):
        read_kit(text)


def test_newer_kits_are_refused_by_version() -> None:
    body = _payload()[:-8]
    newer = [
        TEXT.replace("kit v1", "kit v2", 1),
        "DONJON-KIT:2:WHATEVER",
        _resum(b"\x02" + body[1:]),
        _resum(body[:1] + b"\x05" + body[2:]),
    ]
    for text in newer:
        with pytest.raises(UnsupportedVersion) as caught:
            read_kit(text)
        assert caught.value.hint == "Install a newer Donjon."


def test_a_name_that_is_no_text_is_refused() -> None:
    body = _payload()[:-8]
    with pytest.raises(KeyNotAvailable, match="UTF-8"):
        read_kit(_resum(body.replace(b"prod", b"\xff\xff\xff\xff", 1)))


def test_keys_that_are_not_of_the_fingerprint_are_refused() -> None:
    body = bytearray(_payload()[:-8])
    body[-1] ^= 1
    with pytest.raises(KeyNotAvailable, match="fingerprint"):
        read_kit(_resum(bytes(body)))


@given(st.data())
@settings(deadline=None)
def test_hostile_payloads_raise_our_errors_only(data: st.DataObject) -> None:
    body = bytearray(_payload()[:-8])
    cut = data.draw(st.integers(0, len(body)))
    changes = data.draw(st.dictionaries(st.integers(0, len(body) - 1), st.integers(0, 255), max_size=4))
    for at, value in changes.items():
        body[at] = value
    text = _resum(bytes(body[:cut]))
    try:
        kit = read_kit(text)
    except (KeyNotAvailable, UnsupportedVersion):
        return
    # Without a passphrase only the fingerprint protects; it covers the keys and nothing else.
    # It does not cover what ML-KEM answers with when it refuses, which opens nothing.
    assert (kit.public, kit.root_seed) == (KIT_ONE.public, KIT_ONE.root_seed)


@given(st.text(max_size=300), st.integers(0, len(TEXT)))
@settings(deadline=None)
def test_hostile_texts_raise_our_errors_only(junk: str, at: int) -> None:
    for text in (junk, TEXT[:at] + junk, TEXT[:at] + junk + TEXT[at:], "DONJON-KIT:1:" + junk):
        try:
            assert read_kit(text) == KIT_ONE
        except (KeyNotAvailable, UnsupportedVersion):
            continue


@given(st.integers(0, len(TEXT) - 1), st.characters())
@settings(deadline=None)
def test_a_changed_character_is_found_or_harmless(at: int, character: str) -> None:
    try:
        assert read_kit(TEXT[:at] + character + TEXT[at + 1 :]) == KIT_ONE
    except (KeyNotAvailable, UnsupportedVersion):
        return


def test_the_longest_kit_has_a_code_and_a_block() -> None:
    kit = replace(KIT_ONE, vault_name="n" * 64, vault_url="u" * 512)
    text = kit_to_text(kit, "secret", cost=CHEAP)
    assert len(_payload(text)) == 800
    assert read_kit(text, lambda: "secret") == kit
    assert kit_payload.decode(_payload(text), "kit")[0].vault_url == "u" * 512
