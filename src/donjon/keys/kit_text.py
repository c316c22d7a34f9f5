"""A recovery kit as text: a page that people can read, type and check, and what its QR code says.

``docs/keys.md``, "The file" and "The QR code". Text to payload and back; no files, no secrets opened.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from blake3 import blake3

from donjon.core.clock import iso
from donjon.core.errors import KeyNotAvailable
from donjon.keys.kit_payload import VERSION, Head, damaged, newer, show_fingerprint

TITLE: Final = "donjon recovery kit v"
QR_PREFIX: Final = "DONJON-KIT:"

_BEGIN: Final = "-----BEGIN DONJON RECOVERY KIT-----"
_END: Final = "-----END DONJON RECOVERY KIT-----"
_LINE_BYTES: Final = 20
_CHECK_CHARS: Final = 4
#: A payload has at most 40 lines; a page with prose around them never comes near this.
_MAX_TEXT_CHARS: Final = 64 * 1024

_TITLE: Final = re.compile(re.escape(TITLE) + r"([0-9]{1,4})", re.IGNORECASE)
_QR: Final = re.compile(re.escape(QR_PREFIX) + r"([0-9]{1,4}):(.*)", re.IGNORECASE)
_NUMBERED: Final = re.compile(r"([0-9]{2})\s*(\S.*)")
#: Digits that base32 does not have, and the letters that they are mistaken for (RFC 4648, section 6).
_MISTYPED: Final = str.maketrans("018", "OIB")

_PROSE: Final = """\
This is a recovery kit of a Donjon vault, a store of backups that nobody can change.
Keep it offline and in a safe place, best printed and with a copy elsewhere.
{who} can read the vault.{root}
Without it, and without a KMS, the vault cannot be opened: nobody can help you then.

To use it, give this file to donjon where it asks for a recovery kit. From paper, scan the QR code or
type the first line and the block below; every line of it ends with four characters that check it."""


def to_text(head: Head, payload: bytes) -> str:
    """The kit file."""
    who = "Whoever has it and knows its passphrase" if head.argon else "Whoever has it"
    root = "\nIt holds the root key too, which decides who may write to the vault." if head.has_root else ""
    headers = "\n".join(f"{name + ':':<12} {value}" for name, value in _headers(head).items())
    prose = _PROSE.format(who=who, root=root)
    block = "\n".join(_armour(payload))
    return f"{TITLE}{VERSION}\n\n{headers}\n\n{prose}\n\n{_BEGIN}\n{block}\n{_END}\n"


def to_qr(payload: bytes) -> str:
    """What the QR code says, all in characters of its alphanumeric mode."""
    return f"{QR_PREFIX}{VERSION}:{_b32(payload)}"


def to_payload(text: str, what: str) -> bytes:
    """The payload of a kit file or of a scanned QR code, not yet decoded.

    Raises ``KeyNotAvailable`` that names ``what`` and the damaged line, ``UnsupportedVersion`` for a
    newer kit.
    """
    if len(text) > _MAX_TEXT_CHARS:
        raise damaged(what, "it is longer than any kit")
    text = text.removeprefix("\ufeff")
    scanned = _QR.fullmatch("".join(text.split()))
    if scanned:
        _check_version(int(scanned[1]), what)
        return _unb32(scanned[2], what, "the text of its QR code")
    lines = [line.strip() for line in text.splitlines()]
    _check_title(lines, what)
    return _unarmour(lines, what)


def check_headers(text: str, head: Head, what: str) -> None:
    """Raises ``KeyNotAvailable`` if a header line says something else than the payload."""
    expected = _headers(head)
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() == _BEGIN:
            return
        name, colon, value = line.strip().removeprefix("\ufeff").partition(":")
        if colon and name in expected and value.strip() != expected[name]:
            msg = f"{what}: line {number} was changed: {name} is {expected[name]!r} in the kit itself"
            raise KeyNotAvailable(msg, hint=f"Find out who changed it; then correct or delete line {number}.")


def _headers(head: Head) -> dict[str, str]:
    return {
        "Vault": head.vault_name,
        "Address": head.vault_url,
        "Vault id": head.vault_id.hex(),
        "Fingerprint": show_fingerprint(head.fingerprint),
        "Created": iso(head.created_at),
        "Holds": "a key that opens the vault" + (", and the root key" if head.has_root else ""),
        "Protected": "by a passphrase" if head.argon else "no",
    }


def _check_title(lines: list[str], what: str) -> None:
    first = next((line for line in lines if line), "")
    title = _TITLE.fullmatch(first)
    if not title:
        msg = f"{what}: is not a recovery kit"
        raise KeyNotAvailable(msg, hint=f"A kit starts with the line {TITLE + str(VERSION)!r}.")
    _check_version(int(title[1]), what)


def _check_version(version: int, what: str) -> None:
    if version != VERSION:
        raise newer(what, f"version {version}")


def _armour(payload: bytes) -> list[str]:
    lines = []
    for number, start in enumerate(range(0, len(payload), _LINE_BYTES), start=1):
        data = payload[start : start + _LINE_BYTES]
        chars = _b32(data)
        groups = " ".join(chars[at : at + 4] for at in range(0, len(chars), 4))
        lines.append(f"{number:02d} {groups}  {_check(number, data)}")
    return lines


def _unarmour(lines: list[str], what: str) -> bytes:
    if _BEGIN not in lines or _END not in lines:
        raise damaged(what, f"it has no block from {_BEGIN!r} to {_END!r}")
    block = [line for line in lines[lines.index(_BEGIN) + 1 : lines.index(_END)] if line]
    parts = []
    for expected, line in enumerate(block, start=1):
        numbered = _NUMBERED.fullmatch(line)
        if not numbered or int(numbered[1]) != expected:
            raise damaged(what, f"line {expected:02d} of its block is missing or out of order")
        chars = "".join(numbered[2].split())
        where = f"line {expected:02d} of its block"
        data = _unb32(chars[:-_CHECK_CHARS], what, where)
        is_short = len(data) < _LINE_BYTES and expected != len(block)
        if is_short or len(data) > _LINE_BYTES or _plain(chars[-_CHECK_CHARS:]) != _check(expected, data):
            raise damaged(what, f"{where} does not match its check characters")
        parts.append(data)
    return b"".join(parts)


def _check(number: int, data: bytes) -> str:
    return _b32(blake3(bytes([number]) + data).digest(5))[:_CHECK_CHARS]


def _b32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=")


def _plain(chars: str) -> str:
    return chars.upper().translate(_MISTYPED)


def _unb32(chars: str, what: str, where: str) -> bytes:
    try:
        return base64.b32decode(_plain(chars) + "=" * (-len(chars) % 8))
    except (binascii.Error, ValueError) as error:
        raise damaged(what, f"{where} has the wrong length or characters that no kit has") from error
