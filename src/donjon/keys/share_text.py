"""A share as text: a page that people can read, type and check, and what its QR code says.

``docs/keys.md``, "Shares of a kit". Text to words and bytes, and back; nothing is joined here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from donjon.core.clock import iso
from donjon.core.errors import KeyNotAvailable
from donjon.keys import armour, kit_text, share_payload, slip39
from donjon.keys.kit_payload import damaged
from donjon.keys.share_payload import VERSION, ShareSet, newer
from donjon.keys.slip39 import WordShare

TITLE: Final = "donjon recovery share v"
QR_PREFIX: Final = "DONJON-SHARE:"
KIT_BEGIN: Final = "-----BEGIN DONJON SEALED KIT-----"
KIT_END: Final = "-----END DONJON SEALED KIT-----"

_WORDS_BEGIN: Final = "-----BEGIN DONJON SHARE WORDS-----"
_WORDS_END: Final = "-----END DONJON SHARE WORDS-----"
_WORDS_A_LINE: Final = 3
_MAX_TEXT_CHARS: Final = 64 * 1024

_TITLE: Final = re.compile(re.escape(TITLE) + r"([0-9]{1,4})", re.IGNORECASE)
_QR: Final = re.compile(re.escape(QR_PREFIX) + r"([0-9]{1,4}):([^:]*):([^:]*)", re.IGNORECASE)
_NUMBER: Final = re.compile(r"([0-9]{1,2})\.?")

_ROOT: Final = "\nIt holds the root key too, which decides who may write to the vault."
_PROSE: Final = """\
This is one of {count} shares of the recovery kit of a Donjon vault, a store of backups that nobody can
change. Any {needed} of the {count} make the kit; fewer tell nothing about it. Keep it offline and away from
the other shares. The kit that they make can read the vault.{root}{phrase}

To use it: donjon keys join SHARE SHARE ... --out KIT
From paper, scan the QR codes, or type the words: `donjon keys join --out KIT` asks for them and checks each.
The sealed kit is the same on all shares of this set and is typed once; it is no secret."""


@dataclass(frozen=True, slots=True)
class ShareText:
    """What a text holds: the words of a share, and the sealed kit unless that was left out."""

    words: WordShare
    set: ShareSet | None


def to_text(words: WordShare, share_set: ShareSet) -> str:
    """The file of one share."""
    head = share_set.head
    prose = _PROSE.format(
        count=share_set.count,
        needed=share_set.needed,
        root=_ROOT if head.has_root else "",
        phrase="\nThe kit's own passphrase is needed as well." if head.argon else "",
    )
    rows = []
    for start in range(0, len(words.words), _WORDS_A_LINE):
        row = enumerate(words.words[start : start + _WORDS_A_LINE], start=start + 1)
        rows.append("  ".join(f"{place:2d} {word:<8}" for place, word in row).rstrip())
    top = armour.header_lines(headers(words, share_set))
    block = "\n".join(armour.lines(share_set.encode()))
    lines = [f"{TITLE}{VERSION}", "", top, "", prose, "", _WORDS_BEGIN, *rows, _WORDS_END]
    return "\n".join([*lines, "", KIT_BEGIN, block, KIT_END, ""])


def to_qr(words: WordShare, share_set: ShareSet) -> str:
    """What the QR code says, all in characters of its alphanumeric mode."""
    return f"{QR_PREFIX}{VERSION}:{armour.b32(share_set.encode())}:{'-'.join(words.words).upper()}"


def is_share(text: str) -> bool:
    """Whether a text is meant to be a share, and not a kit."""
    start = text.removeprefix("\ufeff").lstrip().lower()
    return start.startswith((TITLE, QR_PREFIX.lower()))


def read(text: str, what: str) -> ShareText:
    """What a share file or a scanned QR code holds.

    Raises ``KeyNotAvailable`` that names ``what``, and the word or the line that is wrong,
    ``UnsupportedVersion`` for a newer share.
    """
    if len(text) > _MAX_TEXT_CHARS:
        raise damaged(what, "it is longer than any share")
    text = text.removeprefix("\ufeff")
    if scanned := _QR.fullmatch("".join(text.split())):
        _check_version(int(scanned[1]), what)
        payload = armour.unb32(scanned[2], what, "the text of its QR code")
        return _checked(slip39.read(scanned[3].split("-"), what), share_payload.decode(payload, what), what)
    lines = [line.strip() for line in text.splitlines()]
    title = _TITLE.fullmatch(next((line for line in lines if line), ""))
    if not title:
        msg = f"{what}: is not a share of a recovery kit"
        raise KeyNotAvailable(msg, hint=f"A share starts with the line {TITLE + str(VERSION)!r}.")
    _check_version(int(title[1]), what)
    words = slip39.read(_words(lines, what), what)
    if KIT_BEGIN not in lines:
        return ShareText(words, None)
    share_set = share_payload.decode(armour.unarmour(lines, KIT_BEGIN, KIT_END, what), what)
    found = _checked(words, share_set, what)
    armour.check_headers(text, headers(words, share_set), _WORDS_BEGIN, what)
    return found


def headers(words: WordShare, share_set: ShareSet) -> dict[str, str]:
    """The header lines of a share, by their names."""
    of_kit = kit_text.headers(share_set.head)
    kept = {name: of_kit[name] for name in ("Vault", "Address", "Vault id", "Fingerprint")}
    return kept | {
        "Share": f"{words.number} of {share_set.count}",
        "Needed": f"{share_set.needed} of {share_set.count}",
        "Set": show_set(share_set.identifier),
        "Split": iso(share_set.split_at),
    }


def show_set(identifier: int) -> str:
    """The number of a set for people: all its shares, and hardly any of another split, have it."""
    return f"{identifier:05d}"


def _checked(words: WordShare, share_set: ShareSet, what: str) -> ShareText:
    """Raises ``KeyNotAvailable`` for words of another set than the sealed kit beside them."""
    same = (words.identifier, words.needed) == (share_set.identifier, share_set.needed)
    if not same or words.number > share_set.count:
        msg = f"{what}: its words are of set {show_set(words.identifier)}, its sealed kit is of another one"
        raise KeyNotAvailable(
            msg, hint="Words and sealed kit of two splits were mixed; compare with the paper."
        )
    return ShareText(words, share_set)


def _words(lines: list[str], what: str) -> list[str]:
    if _WORDS_BEGIN not in lines or _WORDS_END not in lines:
        raise damaged(what, f"it has no words from {_WORDS_BEGIN!r} to {_WORDS_END!r}")
    words: list[str] = []
    for line in lines[lines.index(_WORDS_BEGIN) + 1 : lines.index(_WORDS_END)]:
        for token in line.split():
            number = _NUMBER.fullmatch(token)
            if number is None:
                words.append(token)
            elif int(number[1]) != len(words) + 1:
                raise damaged(what, f"word {len(words) + 1} is missing or out of order")
    return words


def _check_version(version: int, what: str) -> None:
    if version != VERSION:
        raise newer(what, f"version {version}")
