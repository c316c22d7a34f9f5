"""Shamir's secret sharing as SLIP-39 has it: 32 bytes into shares of 33 words, and back.

The only module that knows the library. One group, no passphrase: a passphrase of SLIP-39 is stretched with
PBKDF2 only, and a wrong one is not noticed; kits have their own. Words come from people: each mistake is
told with its place, as far as the checksum of three words allows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from shamir_mnemonic import MnemonicError, Share, recover_ems
from shamir_mnemonic.constants import CUSTOMIZATION_STRING_EXTENDABLE
from shamir_mnemonic.rs1024 import CHECKSUM_LENGTH_WORDS, create_checksum, verify_checksum
from shamir_mnemonic.shamir import ShareGroup, generate_mnemonics
from shamir_mnemonic.wordlist import WORD_INDEX_MAP, WORDLIST

from donjon.core.errors import KeyNotAvailable

WORDS: Final = 33
#: No two words of SLIP-39 begin with the same four letters.
_PREFIX_CHARS: Final = 4
_WORD_BITS: Final = 10
_HINT: Final = "Compare it with the paper, or use another share of this set."


@dataclass(frozen=True, slots=True)
class WordShare:
    """One share in words. ``number`` counts from 1; ``needed`` shares of the set make the secret."""

    identifier: int
    number: int
    needed: int
    words: tuple[str, ...] = field(repr=False)


def split(secret: bytes, needed: int, count: int) -> list[WordShare]:
    """``count`` shares of 32 secret bytes; any ``needed`` of them make it, fewer tell nothing about it."""
    (mnemonics,) = generate_mnemonics(1, [(needed, count)], secret, iteration_exponent=0)
    return [read(mnemonic.split(), "new share") for mnemonic in mnemonics]


def complete(word: str) -> str | None:
    """The word of SLIP-39 that is meant, in full or by its first four letters; None if there is none."""
    word = word.lower()
    if word in WORD_INDEX_MAP:
        return word
    if len(word) != _PREFIX_CHARS:
        return None
    return next((known for known in WORDLIST if known.startswith(word)), None)


def read(typed: Sequence[str], what: str) -> WordShare:
    """A share from its words.

    Raises ``KeyNotAvailable`` that names ``what``, and as far as it can the wrong word and its place.
    """
    words = []
    for place, given in enumerate(typed, start=1):
        word = complete(given)
        if word is None:
            msg = f"{what}: word {place} ({given[:20]!r}) is no word of SLIP-39"
            raise KeyNotAvailable(msg, hint=_HINT)
        words.append(word)
    if len(words) != WORDS:
        msg = f"{what}: has {len(words)} words instead of {WORDS}"
        raise KeyNotAvailable(msg, hint=_HINT)
    check(words, what)
    try:
        share = Share.from_mnemonic(" ".join(words))
    except MnemonicError as error:
        raise KeyNotAvailable(f"{what}: its words are no share: {error}", hint=_HINT) from error
    if (share.group_threshold, share.group_count, share.group_index) != (
        1,
        1,
        0,
    ) or share.member_threshold < 2:
        msg = f"{what}: is a share of SLIP-39, but not of a recovery kit"
        raise KeyNotAvailable(msg, hint="Use the shares that `donjon keys split` made.")
    return WordShare(share.identifier, share.index + 1, share.member_threshold, tuple(words))


def check(words: Sequence[str], what: str) -> None:
    """Raises ``KeyNotAvailable`` with the place of the mistake if the words do not fit their checksum."""
    indices = [WORD_INDEX_MAP[word] for word in words]
    if verify_checksum(indices, CUSTOMIZATION_STRING_EXTENDABLE):
        return
    for at, (one, two) in enumerate(itertools.pairwise(indices)):
        swapped = [*indices[:at], two, one, *indices[at + 2 :]]
        if verify_checksum(swapped, CUSTOMIZATION_STRING_EXTENDABLE):
            msg = f"{what}: words {at + 1} ({words[at]!r}) and {at + 2} ({words[at + 1]!r}) are swapped"
            raise KeyNotAvailable(msg, hint=_HINT)
    place = _wrong_place(indices)
    if place is None:
        msg = f"{what}: its words do not fit their checksum: several are wrong or out of order"
    else:
        msg = f"{what}: word {place} ({words[place - 1]!r}) is wrong, if only one is"
    raise KeyNotAvailable(msg, hint=_HINT)


def join(shares: Iterable[WordShare]) -> bytes:
    """The secret of exactly as many different shares of one set as are needed.

    Raises ``KeyNotAvailable`` if they do not fit together.
    """
    group = ShareGroup()
    try:
        for share in shares:
            group.add(Share.from_mnemonic(" ".join(share.words)))
        secret: bytes = recover_ems({0: group}).decrypt(b"")
    except MnemonicError as error:
        msg = "the shares do not fit together: at least one of them was changed"
        raise KeyNotAvailable(msg, hint="Use other shares of this set.") from error
    return secret


def _wrong_place(indices: Sequence[int]) -> int | None:
    """Where, counted from 1, one other word would make the checksum right; None if nowhere.

    The checksum is linear and any two right sequences differ in four words at least, so with one wrong word
    there is one such place.
    """
    data, given = list(indices[:-CHECKSUM_LENGTH_WORDS]), indices[-CHECKSUM_LENGTH_WORDS:]
    right = _number(create_checksum(data, CUSTOMIZATION_STRING_EXTENDABLE))
    wanted = right ^ _number(given)
    for at, value in enumerate(data):
        basis = []
        for bit in range(_WORD_BITS):
            data[at] = value ^ (1 << bit)
            basis.append(right ^ _number(create_checksum(data, CUSTOMIZATION_STRING_EXTENDABLE)))
        data[at] = value
        if _spans(basis, wanted):
            return at + 1
    for at in range(CHECKSUM_LENGTH_WORDS):  # the mistake is in the checksum itself
        only = (1 << _WORD_BITS) - 1 << _WORD_BITS * (CHECKSUM_LENGTH_WORDS - 1 - at)
        if not wanted & ~only:
            return len(data) + at + 1
    return None


def _spans(basis: Iterable[int], wanted: int) -> bool:
    """Whether some of ``basis``, added without carry, give ``wanted``: elimination over GF(2)."""
    reduced: list[int] = []
    for vector in (*basis, wanted):
        left = vector
        for other in reduced:
            left = min(left, left ^ other)
        if left:
            reduced.append(left)
        reduced.sort(reverse=True)
        last = left
    return not last


def _number(symbols: Iterable[int]) -> int:
    value = 0
    for symbol in symbols:
        value = value << _WORD_BITS | symbol
    return value
