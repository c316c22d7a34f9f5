"""Shares that somebody types from paper: each word and each line is checked as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from donjon.core.errors import KeyNotAvailable, UnsupportedVersion, UsageError

if TYPE_CHECKING:
    from donjon.keys.share_payload import ShareSet
    from donjon.keys.shares import Share

#: Asks for one line; None when there will be no more.
ReadLine = Callable[[str], str | None]
Say = Callable[[str], None]

#: More lines than any sealed kit has.
_MOST_LINES = 50


def type_shares(given: Sequence[Share], read_line: ReadLine, say: Say) -> list[Share]:
    """The shares of ``given`` files and as many typed ones as are missing.

    Instead of the sealed kit, or of words, the text of a share's QR code will do: many scanners type what
    they read. Raises ``UsageError`` if the typing ends too early.
    """
    from donjon.keys.shares import Share

    shares = list(given)
    share_set = next((share.set for share in shares if share.set is not None), None)
    if share_set is None:
        scanned = _type_set(read_line, say)
        share_set = scanned.set if isinstance(scanned, Share) else scanned
        shares += [scanned] if isinstance(scanned, Share) else []
    assert share_set is not None  # noqa: S101  (a scanned share has its set)
    while len(shares) < share_set.needed:
        say(f"Share {len(shares) + 1} of the {share_set.needed} that are needed, whichever it is.")
        share = _type_share(read_line, say)
        if problem := _problem(share, share_set, shares):
            say(f"{problem} Type another one.")
            continue
        say(f"That is share {share.words.number}. Good.")
        shares.append(share if share.set is not None else replace(share, set=share_set))
    return shares


def _type_set(read_line: ReadLine, say: Say) -> ShareSet | Share:
    """The sealed kit, line by line, or a whole share from a scanner."""
    from donjon.keys import armour, share_payload, share_text
    from donjon.keys.shares import read_share

    say("The sealed kit, from any share: type its lines with their numbers. Case and spaces do not matter.")
    data = b""
    number = 1
    while True:
        line = _next(read_line, f"line {number:02d}: ")
        if share_text.is_share(line):
            try:
                return read_share(line)
            except (KeyNotAvailable, UnsupportedVersion) as error:
                say(f"{error.message}.")
                continue
        if not line or line.startswith("-"):
            continue
        try:
            part = armour.unarmour_line(line, number, "this line")
        except KeyNotAvailable as error:
            say(f"{error.message}. Type line {number:02d} again.")
            continue
        data += part
        number += 1
        try:
            return share_payload.decode(data, "the sealed kit")
        except KeyNotAvailable:
            size = share_payload.size_of(data)
            if armour.is_last(part) or (size is not None and len(data) >= size) or number > _MOST_LINES:
                say("That was its last line, but they do not make a sealed kit. Start with line 01 again.")
                data, number = b"", 1


def _type_share(read_line: ReadLine, say: Say) -> Share:
    from donjon.keys import share_text, slip39
    from donjon.keys.shares import Share, read_share

    words: list[str] = []
    while len(words) < slip39.WORDS:
        line = _next(read_line, f"word {len(words) + 1}: ")
        try:
            if share_text.is_share(line):
                return read_share(line)
        except (KeyNotAvailable, UnsupportedVersion) as error:
            say(f"{error.message}.")
            continue
        for typed in line.split():
            if typed.rstrip(".").isdecimal():  # the numbers on the paper may be typed along
                continue
            word = slip39.complete(typed)
            if word is None:
                say(f"Word {len(words) + 1} ({typed[:20]!r}) is no word of a share. Go on from there.")
                break
            words.append(word)
        while len(words) >= slip39.WORDS:
            try:
                return Share("typed share", slip39.read(words[: slip39.WORDS], "this share"), None)
            except KeyNotAvailable as error:
                say(f"{error.message}.")
            if not _correct(words, read_line, say):
                words = []
                say("Start with word 1 again.")
    raise AssertionError  # pragma: no cover  (the inner loop returns)


def _correct(words: list[str], read_line: ReadLine, say: Say) -> bool:
    """Let one word be typed again; False if all are to be."""
    from donjon.keys import slip39

    answer = _next(read_line, "number of the word to correct, or Enter to type all again: ")
    if not answer.isdecimal() or not 1 <= int(answer) <= slip39.WORDS:
        return False
    while (word := slip39.complete(_next(read_line, f"word {int(answer)}: "))) is None:
        say("That is no word of a share.")
    words[int(answer) - 1] = word
    return True


def _problem(share: Share, share_set: ShareSet, others: Sequence[Share]) -> str:
    """Why a share is of no use here; empty if it is."""
    from donjon.keys.share_text import show_set

    words = share.words
    if (words.identifier, words.needed) != (share_set.identifier, share_set.needed):
        return (
            f"This is a share of set {show_set(words.identifier)}, not of {show_set(share_set.identifier)}."
        )
    if words.number > share_set.count:
        return f"This is share {words.number}, but there are only {share_set.count}."
    if any(other.words.number == words.number for other in others):
        return f"Share {words.number} is there already."
    return ""


def _next(read_line: ReadLine, prompt: str) -> str:
    line = read_line(prompt)
    if line is None:
        msg = "the typing ended before there were enough shares"
        raise UsageError(msg, hint="Run the command again; nothing was written.")
    return line.strip()
