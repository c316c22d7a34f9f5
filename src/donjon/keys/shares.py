"""Shares of a recovery kit: any m of n make the kit, fewer tell nothing about it.

What is shared with SLIP-39 is a fresh key; it seals the kit, and the sealed kit stands on every share. So a
share has 33 words whatever the kit holds, and the kit comes back byte for byte. ``docs/keys.md``, "Shares of
a kit", has the bytes; ADR 0022 the reasons.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from donjon.core.clock import iso
from donjon.core.errors import DonjonError, KeyNotAvailable, UsageError
from donjon.keys import kit_payload, kit_text, share_payload, share_text, slip39
from donjon.keys.kit_payload import show_fingerprint
from donjon.keys.recovery import load_text
from donjon.keys.share_payload import FEWEST_NEEDED, KEY_BYTES, MOST_SHARES, ShareSet
from donjon.keys.slip39 import WordShare

#: So many subsets are tried at most to find the share that does not belong: 16 over 3, and more.
_MOST_SUBSETS: Final = 600


@dataclass(frozen=True, slots=True)
class Share:
    """A share that was read. ``what`` says where from, ``set`` is None if it came without the sealed kit."""

    what: str
    words: WordShare
    set: ShareSet | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Joined:
    """A kit that shares made. ``text`` is its file, ``numbers`` those of the shares, of ``count``."""

    text: str = field(repr=False)
    numbers: tuple[int, ...]
    needed: int
    count: int
    is_protected: bool


def split_kit(text: str, needed: int, count: int, now: int) -> list[str]:
    """The share files of a kit, given by the text of its file; the kit stays as it is, protected or not.

    They were joined again before they are returned. ``now`` is in Unix seconds. Raises ``UsageError`` for
    numbers that cannot be, and what ``read_kit`` raises for a kit that cannot be read.
    """
    if not FEWEST_NEEDED <= needed <= count <= MOST_SHARES:
        msg = f"a kit cannot be split into {count} shares of which {needed} are needed"
        raise UsageError(msg, hint=f"2 or more are needed, of at most {MOST_SHARES}.")
    payload = kit_text.to_payload(text, "recovery kit")
    key = os.urandom(KEY_BYTES)
    words = slip39.split(key, needed, count)
    identifier = words[0].identifier
    share_set = share_payload.seal(
        payload, key, identifier=identifier, needed=needed, count=count, split_at=now
    )
    texts = [share_text.to_text(share, share_set) for share in words]
    read_back = [read_share(text) for text in texts]
    for start in range(count):  # so that each share was used at least once
        chosen = [read_back[(start + step) % count] for step in range(needed)]
        if kit_text.to_payload(join(chosen).text, "joined kit") != payload:
            msg = "the shares do not make the kit again, so none was saved"
            raise DonjonError(msg, hint="Check the memory of this machine.")
    return texts


def read_share(source: Path | str) -> Share:
    """The share in a file (``Path``) or in a text (``str``): a share file or the text of its QR code.

    Raises ``KeyNotAvailable`` if there is none or it is damaged, ``UnsupportedVersion`` for a newer one.
    """
    what = str(source) if isinstance(source, Path) else "share"
    text = load_text(source, "share") if isinstance(source, Path) else source
    if kit_text.is_kit(text):
        msg = f"{what}: is a whole recovery kit, not a share of one"
        raise KeyNotAvailable(msg, hint="Use it as it is, with --kit.")
    found = share_text.read(text, what)
    return Share(what, found.words, found.set)


def join(shares: Sequence[Share]) -> Joined:
    """The kit that these shares make.

    Raises ``KeyNotAvailable`` if there are too few, one is of another kit or set or given twice, or if they
    do not fit together; the message names the share.
    """
    share_set = _common_set(shares)
    words = [share.words for share in shares]
    for share in shares:
        _check_member(share, share_set)
    for one, two in itertools.combinations(shares, 2):
        if one.words.number == two.words.number:
            same = "twice" if one.words.words == two.words.words else "twice, with different words"
            msg = f"{one.what} and {two.what}: share {one.words.number} is there {same}"
            raise KeyNotAvailable(msg, hint="Give each share once; leave out the one that you trust less.")
    if len(words) < share_set.needed:
        numbers = ", ".join(str(share.number) for share in words)
        msg = f"too few shares: {len(words)} (number {numbers}) where {share_set.needed} are needed"
        raise KeyNotAvailable(msg, hint=f"Any {share_set.needed} of the {share_set.count} will do.")
    payload = _open(shares, share_set)
    head, _ = kit_payload.decode(payload, "joined kit")
    return Joined(
        kit_text.to_text(head, payload),
        tuple(sorted(share.number for share in words)),
        share_set.needed,
        share_set.count,
        head.argon is not None,
    )


def _open(shares: Sequence[Share], share_set: ShareSet) -> bytes:
    """The payload of the kit, once every share was found to belong to the others."""
    needed = share_set.needed
    for chosen in itertools.islice(itertools.combinations(shares, needed), _MOST_SUBSETS):
        try:
            payload = _open_with(chosen, share_set)
        except KeyNotAvailable as error:
            failure = error
            continue
        for other in shares:
            try:
                if other not in chosen:
                    _open_with((*chosen[1:], other), share_set)
            except KeyNotAvailable as error:
                msg = f"{other.what}: share {other.words.number} does not fit the others: it was changed"
                raise KeyNotAvailable(msg, hint="Leave it out, and find out who changed it.") from error
        return payload
    raise failure


def _open_with(chosen: Sequence[Share], share_set: ShareSet) -> bytes:
    return share_set.open(slip39.join(share.words for share in chosen))


def _common_set(shares: Sequence[Share]) -> ShareSet:
    """The one set that all shares with a sealed kit are of."""
    first = next((share for share in shares if share.set is not None), None)
    if first is None or first.set is None:
        msg = "no share was given" if not shares else "none of the shares has the sealed kit beside its words"
        raise KeyNotAvailable(msg, hint="Give it with one of them; it is the same on all.")
    for share in shares:
        if share.set is not None and share.set != first.set:
            raise _of_another(share, share.set, first)
    return first.set


def _check_member(share: Share, share_set: ShareSet) -> None:
    words = share.words
    same = (words.identifier, words.needed) == (share_set.identifier, share_set.needed)
    if not same or words.number > share_set.count:
        msg = f"{share.what}: is of set {share_text.show_set(words.identifier)}, not of set "
        msg += f"{share_text.show_set(share_set.identifier)} like the sealed kit"
        raise KeyNotAvailable(msg, hint="Use shares of one split only.")


def _of_another(share: Share, its: ShareSet, first: Share) -> KeyNotAvailable:
    theirs = first.set
    assert theirs is not None  # noqa: S101  (chosen for having one)
    if its.head.fingerprint != theirs.head.fingerprint:
        kit = f"{show_fingerprint(its.head.fingerprint)} of vault {its.head.vault_name!r}"
        msg = f"{share.what}: is a share of another kit than {first.what}: {kit}"
    elif its.identifier != theirs.identifier or its.split_at != theirs.split_at:
        msg = (
            f"{share.what}: is of another split than {first.what}: set {share_text.show_set(its.identifier)} "
        )
        msg += f"of {iso(its.split_at)}"
    else:
        msg = f"{share.what}: has another sealed kit than {first.what}: one of them was changed"
    return KeyNotAvailable(msg, hint="Shares fit only together with those that were made at the same time.")
