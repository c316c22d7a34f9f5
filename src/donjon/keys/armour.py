"""Bytes as lines that people can type: numbered, in groups of four characters, each line with its check.

``docs/keys.md``, "The file", has the rules; recovery kits and shares of them use the same ones.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from blake3 import blake3

from donjon.core.errors import KeyNotAvailable
from donjon.keys.kit_payload import damaged

_LINE_BYTES: Final = 20
_CHECK_CHARS: Final = 4
_NUMBERED: Final = re.compile(r"([0-9]{2})\s*(\S.*)")
#: Digits that base32 does not have, and the letters that they are mistaken for (RFC 4648, section 6).
_MISTYPED: Final = str.maketrans("018", "OIB")


def lines(payload: bytes) -> list[str]:
    """The lines of a block, without those around it."""
    made = []
    for number, start in enumerate(range(0, len(payload), _LINE_BYTES), start=1):
        data = payload[start : start + _LINE_BYTES]
        chars = b32(data)
        groups = " ".join(chars[at : at + 4] for at in range(0, len(chars), 4))
        made.append(f"{number:02d} {groups}  {_check(number, data)}")
    return made


def unarmour(text_lines: list[str], begin: str, end: str, what: str) -> bytes:
    """The bytes of the block between the lines ``begin`` and ``end``, among stripped lines of a text.

    Raises ``KeyNotAvailable`` that names ``what`` and the line.
    """
    if begin not in text_lines or end not in text_lines:
        raise damaged(what, f"it has no block from {begin!r} to {end!r}")
    block = [line for line in text_lines[text_lines.index(begin) + 1 : text_lines.index(end)] if line]
    parts = [unarmour_line(line, number, what) for number, line in enumerate(block, start=1)]
    if short := next((number for number, part in enumerate(parts[:-1], start=1) if is_last(part)), None):
        raise damaged(what, f"line {short:02d} of its block does not match its check characters")
    return b"".join(parts)


def unarmour_line(line: str, number: int, what: str) -> bytes:
    """The bytes of one line. Raises ``KeyNotAvailable`` unless it is line ``number`` without a mistake."""
    numbered = _NUMBERED.fullmatch(line)
    if not numbered or int(numbered[1]) != number:
        raise damaged(what, f"line {number:02d} of its block is missing or out of order")
    chars = "".join(numbered[2].split())
    where = f"line {number:02d} of its block"
    data = unb32(chars[:-_CHECK_CHARS], what, where)
    if len(data) > _LINE_BYTES or _plain(chars[-_CHECK_CHARS:]) != _check(number, data):
        raise damaged(what, f"{where} does not match its check characters")
    return data


def is_last(part: bytes) -> bool:
    """Whether a line of these bytes can only be the last one of its block."""
    return len(part) < _LINE_BYTES


def b32(data: bytes) -> str:
    """Base32 of RFC 4648 without padding."""
    return base64.b32encode(data).decode().rstrip("=")


def unb32(chars: str, what: str, where: str) -> bytes:
    """The bytes of base32 as people type it. Raises ``KeyNotAvailable`` that names ``what`` and ``where``."""
    try:
        return base64.b32decode(_plain(chars) + "=" * (-len(chars) % 8))
    except (binascii.Error, ValueError) as error:
        raise damaged(what, f"{where} has the wrong length or characters that no kit has") from error


def header_lines(headers: dict[str, str]) -> str:
    """The lines at the top of a kit or a share."""
    return "\n".join(f"{name + ':':<12} {value}" for name, value in headers.items())


def check_headers(text: str, expected: dict[str, str], begin: str, what: str) -> None:
    """Raises ``KeyNotAvailable`` if a header line before ``begin`` says something else than ``expected``."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() == begin:
            return
        name, colon, value = line.strip().removeprefix("\ufeff").partition(":")
        if colon and name in expected and value.strip() != expected[name]:
            msg = f"{what}: line {number} was changed: {name} is {expected[name]!r} in the kit itself"
            raise KeyNotAvailable(msg, hint=f"Find out who changed it; then correct or delete line {number}.")


def _check(number: int, data: bytes) -> str:
    return b32(blake3(bytes([number]) + data).digest(5))[:_CHECK_CHARS]


def _plain(chars: str) -> str:
    return chars.upper().translate(_MISTYPED)
