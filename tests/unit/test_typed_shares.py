"""Somebody types shares from paper, or lets a scanner type: what is wrong is said and asked for again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from donjon.app.keys.typed_shares import type_shares
from donjon.core.errors import UsageError
from donjon.keys import armour, share_text
from donjon.keys.recovery import RecoveryKit, kit_to_text
from donjon.keys.shares import Share, join, read_share, split_kit

KIT = RecoveryKit.generate(
    vault_id=bytes(16), vault_name="v", vault_url="file:///v", created_at=1, with_root=True
)
TEXT = kit_to_text(KIT)
SHARES = [read_share(text) for text in split_kit(TEXT, 2, 3, 1)]
OTHERS = [read_share(text) for text in split_kit(TEXT, 2, 3, 1)]


def code(share: Share) -> str:
    assert share.set is not None
    return share_text.to_qr(share.words, share.set)


def lines(share: Share) -> list[str]:
    assert share.set is not None
    return armour.lines(share.set.encode())


def words(share: Share) -> str:
    return " ".join(share.words.words)


def dialogue(answers: Sequence[str], given: Sequence[Share] = ()) -> tuple[list[Share], list[str]]:
    """The shares that somebody who answers so has typed, and all that was said and asked."""
    left, said = list(answers), list[str]()

    def read_line(prompt: str) -> str | None:
        said.append(prompt)
        return left.pop(0) if left else None

    shares = type_shares(given, read_line, said.append)
    assert left == []
    return shares, said


def test_a_scanner_types_whole_shares() -> None:
    shares, said = dialogue([code(SHARES[0]), code(SHARES[2]).lower()])
    assert join(shares).text == TEXT
    assert sum("Good" in text for text in said) == 1
    broken = code(SHARES[0]).rpartition("-")[0] + "-QQQQ"
    shares, said = dialogue([broken, code(SHARES[0]), broken, code(SHARES[1])])
    assert join(shares).text == TEXT
    assert sum("is no word" in text for text in said) == 2


def test_a_share_of_another_split_is_asked_for_again() -> None:
    shares, said = dialogue([words(OTHERS[1]), words(SHARES[0]), words(SHARES[1])], given=SHARES[:1])
    assert join(shares).text == TEXT
    assert any("This is a share of set" in text for text in said)
    assert any("Share 1 is there already" in text for text in said)


@pytest.mark.parametrize("name", ["v", "va", "vau", "vaultvaultvaultva"])
def test_lines_of_two_splits_make_no_sealed_kit_and_are_asked_for_again(name: str) -> None:
    """Whether the last line is a short one or not."""
    text = kit_to_text(replace(KIT, vault_name=name))
    one, two = ([read_share(share) for share in split_kit(text, 2, 3, 1)] for _ in range(2))
    mixed = [lines(two[0])[0], *lines(one[0])[1:]]
    shares, said = dialogue(["", *mixed, *lines(one[0]), words(one[0]), words(one[1])])
    assert join(shares).text == text
    assert any("Start with line 01 again" in text for text in said)


def test_lines_that_say_nothing_of_an_end_come_to_one() -> None:
    senseless = armour.lines(bytes(20 * 50))
    _, said = dialogue([*senseless, code(SHARES[0]), code(SHARES[1])])
    assert any("Start with line 01 again" in text for text in said)


def test_a_share_with_several_mistakes_can_be_typed_again() -> None:
    right = list(SHARES[1].words.words)
    wrong = " ".join([*reversed(right[:9]), *right[9:]])
    shares, said = dialogue([wrong, "", words(SHARES[1])], given=SHARES[:1])
    assert join(shares).text == TEXT
    assert any("Start with word 1 again" in text for text in said)
    place = 12 if right[11] != "academic" else 13
    typed = " ".join([*right[: place - 1], "academic", *right[place:]])
    shares, said = dialogue([typed, str(place), "nonsense", right[place - 1]], given=SHARES[:1])
    assert join(shares).text == TEXT
    assert any("no word of a share" in text for text in said)


@pytest.mark.parametrize("answers", [[], lines(SHARES[0])[:3], [*lines(SHARES[0]), "academic acid"]])
def test_typing_that_ends_too_early_is_told(answers: list[str]) -> None:
    with pytest.raises(UsageError, match="ended before"):
        dialogue(answers)


def test_nothing_is_asked_when_the_files_are_enough() -> None:
    assert dialogue([], given=SHARES[:2]) == (SHARES[:2], [])
