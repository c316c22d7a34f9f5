"""Shares of a kit: any m of n make it, and whatever else is given is refused by name."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest
import segno
import zxingcpp
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from shamir_mnemonic import Share as Slip39Share
from shamir_mnemonic import generate_mnemonics
from shamir_mnemonic.wordlist import WORDLIST

from donjon.core.errors import DonjonError, KeyNotAvailable, UnsupportedVersion, UsageError
from donjon.keys import armour, kit_paper, share_payload, share_text, shares, slip39
from donjon.keys.argon2id import Cost
from donjon.keys.recovery import RecoveryKit, kit_to_text, read_kit
from donjon.keys.shares import Share, join, read_share, split_kit

CHEAP = Cost(memory_kib=8 * 1024, passes=1, lanes=1)
KIT = RecoveryKit.generate(
    vault_id=bytes(range(16)),
    vault_name="prod",
    vault_url="s3://b/p",
    created_at=1_795_428_000,
    with_root=True,
)
NOW = 1_795_500_000
TEXT = kit_to_text(KIT)
THREE_OF_FIVE = split_kit(TEXT, 3, 5, NOW)


def read(texts: list[str]) -> list[Share]:
    return [read_share(text) for text in texts]


FIVE = read(THREE_OF_FIVE)


def words_only(text: str) -> str:
    """A share typed from paper without its sealed kit."""
    return text.partition(share_text.KIT_BEGIN)[0]


# --- What shares are --------------------------------------------------------------------------------


@pytest.mark.parametrize(("needed", "count"), [(2, 2), (2, 3), (3, 5), (16, 16)])
def test_any_that_are_enough_make_the_kit_byte_for_byte(needed: int, count: int) -> None:
    made = read(split_kit(TEXT, needed, count, NOW))
    assert [share.words.number for share in made] == list(range(1, count + 1))
    for chosen in itertools.islice(itertools.permutations(made, needed), 30):
        joined = join(chosen)
        assert joined.text == TEXT
        assert joined.numbers == tuple(sorted(share.words.number for share in chosen))
        assert (joined.needed, joined.count, joined.is_protected) == (needed, count, False)


def test_more_than_enough_are_all_checked() -> None:
    assert join(FIVE).text == TEXT
    assert join(FIVE).numbers == (1, 2, 3, 4, 5)


def test_a_protected_kit_stays_protected() -> None:
    protected = kit_to_text(KIT, "secret", cost=CHEAP)
    joined = join(read(split_kit(protected, 2, 3, NOW))[1:])
    assert joined.is_protected
    assert joined.text == protected
    assert read_kit(joined.text, lambda: "secret") == KIT


@pytest.mark.parametrize(("needed", "count"), [(1, 1), (1, 3), (0, 0), (3, 2), (2, 17), (-2, 3)])
def test_numbers_that_cannot_be_are_refused(needed: int, count: int) -> None:
    with pytest.raises(UsageError):
        split_kit(TEXT, needed, count, NOW)


def test_each_split_has_keys_of_its_own() -> None:
    again = read(split_kit(TEXT, 3, 5, NOW))
    assert {share.words.words for share in again}.isdisjoint(share.words.words for share in FIVE)
    assert again[0].set is not None
    assert FIVE[0].set is not None
    assert again[0].set.sealed != FIVE[0].set.sealed


def test_a_share_shows_nothing_of_the_kit() -> None:
    """The kit's keys are in no share, and one share fewer leaves every key possible."""
    for share in FIVE:
        assert share.set is not None
        assert KIT.opening_key[:16] not in share.set.encode()
        assert (KIT.root_seed or b"")[:16] not in share.set.encode()
        assert share.words.words[5] not in repr(share)
    # Two of three shares fit any value of the third, and each gives another key: nothing is ruled out.
    first, second, third = (Slip39Share.from_mnemonic(" ".join(share.words.words)) for share in FIVE[:3])
    seen = set()
    for byte in range(256):
        value = bytes([byte]) + third.value[1:]
        points = [(first.index, first.value), (second.index, second.value), (third.index, value)]
        seen.add(_interpolate(points)[0])
    assert len(seen) == 256


def _interpolate(points: list[tuple[int, bytes]]) -> bytes:
    """The value at 255, of Lagrange over GF(256) as SLIP-39 has it; written here from its text."""

    def times(a: int, b: int) -> int:
        product = 0
        while b:
            product ^= a if b & 1 else 0
            a = (a << 1) ^ (0x11B if a & 0x80 else 0)
            b >>= 1
        return product

    def inverse(a: int) -> int:
        return next(b for b in range(1, 256) if times(a, b) == 1)

    result = bytearray(len(points[0][1]))
    for x, value in points:
        factor = 1
        for other, _ in points:
            if other != x:
                factor = times(factor, times(255 ^ other, inverse(x ^ other)))
        for at, byte in enumerate(value):
            result[at] ^= times(factor, byte)
    return bytes(result)


# --- Forms ------------------------------------------------------------------------------------------


def test_a_scanner_reads_the_share() -> None:
    long = replace(KIT, vault_name="n" * 64, vault_url="u" * 512)
    for text in (*THREE_OF_FIVE, *split_kit(kit_to_text(long, "secret", cost=CHEAP), 2, 16, NOW)[:2]):
        found = share_text.read(text, "share")
        assert found.set is not None
        code = segno.make_qr(share_text.to_qr(found.words, found.set), error="m", mode="alphanumeric")
        rows = [bytes(255 * (1 - bit) for bit in row) for row in code.matrix_iter(scale=3, border=4)]
        image = memoryview(b"".join(rows)).cast("B", (len(rows), len(rows[0])))
        (scanned,) = zxingcpp.read_barcodes(image)
        assert share_text.read(str(scanned.text), "share") == found
        assert share_text.read(str(scanned.text).lower() + "\n", "share") == found


def test_the_page_holds_the_share_and_its_code() -> None:
    page = kit_paper.printable(THREE_OF_FIVE[1])
    assert "Share 2 of 5 of the recovery kit of prod" in page
    assert all(line in page for line in THREE_OF_FIVE[1].splitlines() if line[:2].strip().isdigit())
    assert "<svg" in page
    assert kit_paper.qr_terminal(THREE_OF_FIVE[1])
    with pytest.raises(KeyNotAvailable):
        kit_paper.printable(words_only(THREE_OF_FIVE[1]))


def test_what_typing_does_to_a_share_is_forgiven() -> None:
    text = THREE_OF_FIVE[0]
    start = text.index("-----BEGIN DONJON SHARE WORDS")
    short = re.sub(r"\b([a-z]{4})[a-z]+\b", r"\1", text[start : text.index("-----END DONJON SHARE WORDS")])
    bare = "\n".join(re.sub(r"[0-9]+", "", line) for line in short.splitlines() if line[:1] != "-")
    typed = f"donjon recovery share v1\n-----BEGIN DONJON SHARE WORDS-----\n{bare.upper()}\n"
    typed += text[text.index("-----END DONJON SHARE WORDS") :]
    for form in ("\ufeff" + text, text.replace("\n", "\r\n"), text.replace("\n", "\n\n"), typed):
        assert read_share(form) == FIVE[0]


def test_the_sealed_kit_is_needed_once() -> None:
    bare = read([words_only(text) for text in THREE_OF_FIVE])
    assert join([FIVE[4], *bare[:2]]).text == TEXT
    with pytest.raises(KeyNotAvailable, match="none of the shares has the sealed kit"):
        join(bare)


# --- What is refused --------------------------------------------------------------------------------


def test_too_few_are_counted() -> None:
    with pytest.raises(KeyNotAvailable, match=r"2 \(number 1, 4\) where 3 are needed") as caught:
        join([FIVE[0], FIVE[3]])
    assert caught.value.exit_code == 13
    assert "Any 3 of the 5" in caught.value.hint
    with pytest.raises(KeyNotAvailable, match="no share was given"):
        join([])


def test_a_share_that_is_there_twice_is_named() -> None:
    with pytest.raises(KeyNotAvailable, match="share 2 is there twice"):
        join([*FIVE[:3], FIVE[1]])
    forged = _changed(FIVE[1])
    with pytest.raises(KeyNotAvailable, match="twice, with different words"):
        join([*FIVE[:3], forged])


def test_shares_of_another_kit_or_split_are_named() -> None:
    other = replace(KIT, opening_key=RecoveryKit.generate(
        vault_id=bytes(16), vault_name="x", vault_url="x", created_at=0, with_root=False
    ).opening_key, vault_name="other")  # fmt: skip
    stranger = read(split_kit(kit_to_text(other), 3, 5, NOW))[2]
    with pytest.raises(KeyNotAvailable, match=r"another kit .* of vault 'other'"):
        join([*FIVE[:2], stranger])
    later = read(split_kit(TEXT, 3, 5, NOW + 60))[2]
    with pytest.raises(KeyNotAvailable, match="another split"):
        join([*FIVE[:2], later])
    with pytest.raises(KeyNotAvailable, match=r"not of set .* like the sealed kit"):
        join([*FIVE[:2], replace(later, set=None)])


def test_words_beside_the_sealed_kit_of_another_split_are_refused() -> None:
    other = split_kit(TEXT, 3, 5, NOW)[0]
    mixed = words_only(THREE_OF_FIVE[0]) + other[other.index(share_text.KIT_BEGIN) :]
    with pytest.raises(KeyNotAvailable, match="its sealed kit is of another one"):
        read_share(mixed)


def test_a_right_set_with_the_sealed_kit_of_a_forger_does_not_open() -> None:
    """Somebody puts a kit of his own on the shares: the key that the words make does not open it."""
    genuine = FIVE[0].set
    assert genuine is not None
    forged = replace(genuine, sealed=bytes(len(genuine.sealed)))
    with pytest.raises(KeyNotAvailable, match="do not open the kit"):
        join([replace(share, set=forged) for share in FIVE[:3]])
    moved = replace(genuine, head=replace(genuine.head, vault_url="s3://attacker/p"))
    with pytest.raises(KeyNotAvailable, match="do not open the kit"):
        join([replace(share, set=moved) for share in FIVE[:3]])
    with pytest.raises(KeyNotAvailable, match="another sealed kit than"):
        join([FIVE[0], replace(FIVE[1], set=forged), FIVE[2]])


def _changed(share: Share) -> Share:
    """The share with another value, and its checksum made to fit by somebody who knows how."""
    own = Slip39Share.from_mnemonic(" ".join(share.words.words))
    value = bytes([own.value[0] ^ 1]) + own.value[1:]
    mnemonic = Slip39Share(*(getattr(own, name) for name in (
        "identifier", "extendable", "iteration_exponent", "group_index", "group_threshold", "group_count",
        "index", "member_threshold",
    )), value).mnemonic()  # fmt: skip
    return replace(share, words=slip39.read(mnemonic.split(), "forged"))


@pytest.mark.parametrize("at", range(4))
def test_a_forged_share_among_enough_is_named(at: int) -> None:
    chosen = list(FIVE[:4])
    chosen[at] = replace(_changed(FIVE[at]), what="the forged one")
    with pytest.raises(KeyNotAvailable, match=f"the forged one: share {at + 1} does not fit"):
        join(chosen)
    with pytest.raises(KeyNotAvailable, match="at least one of them was changed"):
        join([_changed(FIVE[0]), *FIVE[1:3]])


def test_a_whole_kit_is_no_share(tmp_path: Path) -> None:
    path = tmp_path / "kit"
    path.write_text(TEXT)
    with pytest.raises(KeyNotAvailable, match="whole recovery kit"):
        read_share(path)
    with pytest.raises(KeyNotAvailable, match="is not a recovery kit"):
        read_kit(THREE_OF_FIVE[0])


def test_shares_that_donjon_did_not_make_are_refused() -> None:
    kinds: list[dict[str, object]] = [
        {},
        {"groups": [(1, 1)]},
        {"group_threshold": 2, "groups": [(2, 2), (2, 3)]},
    ]
    for options in kinds:
        made = generate_mnemonics(
            **({"group_threshold": 1, "groups": [(2, 3)], "master_secret": bytes(16)} | options)
        )
        for mnemonic in itertools.chain(*made):
            with pytest.raises(KeyNotAvailable):
                slip39.read(mnemonic.split(), "share")


# --- Mistakes in words ------------------------------------------------------------------------------


def test_a_wrong_word_is_named_with_its_place() -> None:
    words = list(FIVE[0].words.words)
    for at in range(33):
        wrong = WORDLIST[(WORDLIST.index(words[at]) + 17 * at + 1) % 1024]
        changed = [*words[:at], wrong, *words[at + 1 :]]
        with pytest.raises(KeyNotAvailable, match=rf"word {at + 1} \('{wrong}'\) is wrong"):
            slip39.read(changed, "share")
        with pytest.raises(KeyNotAvailable, match=rf"word {at + 1} \('zzzz'\) is no word"):
            slip39.read([*words[:at], "zzzz", *words[at + 1 :]], "share")


def test_swapped_missing_and_added_words_are_told() -> None:
    words = list(FIVE[0].words.words)
    for at in range(32):
        if words[at] != words[at + 1]:
            swapped = [*words[:at], words[at + 1], words[at], *words[at + 2 :]]
            with pytest.raises(KeyNotAvailable, match=rf"words {at + 1} \(.* and {at + 2} \(.* are swapped"):
                slip39.read(swapped, "share")
    for changed in (words[:-1], [*words, words[0]], []):
        with pytest.raises(KeyNotAvailable, match="instead of 33"):
            slip39.read(changed, "share")
    with pytest.raises(KeyNotAvailable, match=r"several are wrong|is wrong, if only one is"):
        slip39.read([*words[:9], *reversed(words[9:20]), *words[20:]], "share")


def test_a_missing_word_in_a_file_is_named() -> None:
    text = THREE_OF_FIVE[0].replace(f" 8 {FIVE[0].words.words[7]}", " 8 ")
    with pytest.raises(KeyNotAvailable, match="word 8 is missing"):
        read_share(text)


def test_the_first_four_letters_are_enough() -> None:
    assert len({word[:4] for word in WORDLIST}) == 1024
    assert slip39.complete("ACAD") == slip39.complete("academic") == "academic"
    for wrong in ("aca", "acadm", "academics", "", "acid2", "ächz"):
        assert slip39.complete(wrong) is None


@given(st.lists(st.tuples(st.integers(0, 32), st.integers(0, 1023)), min_size=1, max_size=3))
@settings(deadline=None)
def test_up_to_three_wrong_words_are_always_found(changes: list[tuple[int, int]]) -> None:
    words = list(FIVE[2].words.words)
    for at, index in changes:
        words[at] = WORDLIST[index]
    if tuple(words) == FIVE[2].words.words:
        return
    with pytest.raises(KeyNotAvailable):
        slip39.read(words, "share")


# --- Damage -----------------------------------------------------------------------------------------


def test_every_flipped_bit_of_the_sealed_kit_is_found() -> None:
    genuine = FIVE[0].set
    assert genuine is not None
    payload = genuine.encode()
    for at, bit in itertools.product(range(len(payload)), (0, 3, 7)):
        changed = bytearray(payload)
        changed[at] ^= 1 << bit
        with pytest.raises(KeyNotAvailable):
            share_payload.decode(bytes(changed), "share")
        body = bytes(changed[:-8])
        try:  # somebody who can compute checksums
            forged = share_payload.decode(body + blake3(body).digest(8), "share")
        except (KeyNotAvailable, UnsupportedVersion):
            continue
        if at < len(payload) - 8:
            with pytest.raises(KeyNotAvailable):
                join([replace(share, set=forged) for share in FIVE[:3]])


def test_a_changed_header_is_named() -> None:
    changed = THREE_OF_FIVE[0].replace("Share:       1 of 5", "Share:       1 of 4")
    with pytest.raises(KeyNotAvailable, match="was changed: Share is '1 of 5'"):
        read_share(changed)


def test_newer_shares_are_refused_by_version() -> None:
    genuine = FIVE[0].set
    assert genuine is not None
    body = b"\x02" + genuine.encode()[1:-8]
    newer = share_text.KIT_BEGIN + "\n" + "\n".join(
        armour.lines(body + blake3(body).digest(8))
    ) + "\n" + share_text.KIT_END  # fmt: skip
    texts = [
        THREE_OF_FIVE[0].replace("share v1", "share v2", 1),
        "DONJON-SHARE:2:ABC:DEF",
        words_only(THREE_OF_FIVE[0]) + newer,
    ]
    for text in texts:
        with pytest.raises(UnsupportedVersion) as caught:
            read_share(text)
        assert caught.value.hint == "Install a newer Donjon."


@given(st.text(max_size=300), st.integers(0, len(THREE_OF_FIVE[0])))
@settings(deadline=None)
def test_hostile_texts_raise_our_errors_only(junk: str, at: int) -> None:
    text = THREE_OF_FIVE[0]
    for hostile in (junk, text[:at] + junk, text[:at] + junk + text[at:], "DONJON-SHARE:1:" + junk):
        try:
            found = read_share(hostile)
        except (KeyNotAvailable, UnsupportedVersion):
            continue
        assert found.words == FIVE[0].words
        assert found.set in (None, FIVE[0].set)


@given(st.integers(0, len(THREE_OF_FIVE[0]) - 1), st.characters())
@settings(deadline=None)
def test_a_changed_character_is_found_or_harmless(at: int, character: str) -> None:
    text = THREE_OF_FIVE[0]
    try:
        found = read_share(text[:at] + character + text[at + 1 :])
    except (KeyNotAvailable, UnsupportedVersion):
        return
    assert found.words == FIVE[0].words
    assert found.set in (None, FIVE[0].set)


def test_shares_that_do_not_join_are_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(join(FIVE[:3]), text=kit_to_text(replace(KIT, root_seed=None)))
    monkeypatch.setattr(shares, "join", lambda _: wrong)
    with pytest.raises(DonjonError, match="do not make the kit again"):
        split_kit(TEXT, 3, 5, NOW)
