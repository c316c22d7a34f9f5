"""A recovery kit as text: a page that people can read, type and check, and what its QR code says.

``docs/keys.md``, "The file" and "The QR code". Text to payload and back; no files, no secrets opened.
"""

from __future__ import annotations

import re
from typing import Final

from donjon.core.clock import iso
from donjon.core.errors import KeyNotAvailable
from donjon.keys import armour
from donjon.keys.kit_payload import VERSION, Head, damaged, newer, show_fingerprint

TITLE: Final = "donjon recovery kit v"
QR_PREFIX: Final = "DONJON-KIT:"

_BEGIN: Final = "-----BEGIN DONJON RECOVERY KIT-----"
_END: Final = "-----END DONJON RECOVERY KIT-----"
#: A payload has at most 40 lines; a page with prose around them never comes near this.
_MAX_TEXT_CHARS: Final = 64 * 1024

_TITLE: Final = re.compile(re.escape(TITLE) + r"([0-9]{1,4})", re.IGNORECASE)
_QR: Final = re.compile(re.escape(QR_PREFIX) + r"([0-9]{1,4}):(.*)", re.IGNORECASE)

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
    top = armour.header_lines(headers(head))
    prose = _PROSE.format(who=who, root=root)
    block = "\n".join(armour.lines(payload))
    return f"{TITLE}{VERSION}\n\n{top}\n\n{prose}\n\n{_BEGIN}\n{block}\n{_END}\n"


def to_qr(payload: bytes) -> str:
    """What the QR code says, all in characters of its alphanumeric mode."""
    return f"{QR_PREFIX}{VERSION}:{armour.b32(payload)}"


def is_kit(text: str) -> bool:
    """Whether a text is meant to be a kit, whatever its version and damage."""
    start = text.removeprefix("\ufeff").lstrip().lower()
    return start.startswith((TITLE, QR_PREFIX.lower()))


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
        return armour.unb32(scanned[2], what, "the text of its QR code")
    lines = [line.strip() for line in text.splitlines()]
    _check_title(lines, what)
    return armour.unarmour(lines, _BEGIN, _END, what)


def check_headers(text: str, head: Head, what: str) -> None:
    """Raises ``KeyNotAvailable`` if a header line says something else than the payload."""
    armour.check_headers(text, headers(head), _BEGIN, what)


def headers(head: Head) -> dict[str, str]:
    """The header lines of a kit, by their names."""
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
