"""Vaults that an earlier Donjon wrote: this one reads them, and so does the second reader.

``tests/golden/NAME.json`` holds a vault and its kits, ``NAME.txt`` what is in it. Neither is ever made
again for a version that was released; ``recipe.py`` says how they came about.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from donjon.core.events import Silent
from donjon.keys.passphrase import unlock
from donjon.repository.sealing import survey
from donjon.repository.vault import open_vault
from donjon.repository.verify import verify_content, verify_structure
from tests import second_reader
from tests.golden import reading
from tests.golden.made_up import MadeUpItem
from tests.golden.reading import Golden
from tests.golden.recipe import large_tree, small_tree

NAMES = ("v1-large", "v1-small")
WAYS = pytest.mark.parametrize(
    ("kit", "by_footers"), [(0, False), (1, True)], ids=["first-kit-by-index", "later-kit-by-footers"]
)


@pytest.fixture(scope="module", params=NAMES)
def golden(request: pytest.FixtureRequest) -> Golden:
    return reading.load(request.param)


@WAYS
def test_donjon_restores_what_was_put_in(golden: Golden, kit: int, by_footers: bool, tmp_path: Path) -> None:
    vault = reading.open_golden(golden, kit)
    chunks = reading.reader_of(vault, tmp_path, by_footers=by_footers)
    assert reading.listing(vault, chunks) == reading.expected(golden.name)


@WAYS
def test_the_second_reader_restores_the_same(golden: Golden, kit: int, by_footers: bool) -> None:
    vault = second_reader.Vault(golden.objects, second_reader.read_kit(golden.kits[kit]))
    assert reading.second_listing(vault, by_footers=by_footers) == reading.expected(golden.name)


def test_the_passphrase_opens_the_vault_for_both_readers(tmp_path: Path) -> None:
    golden = reading.load("v1-large")
    second = second_reader.Vault.with_passphrase(golden.objects, golden.passphrase, golden.vault_id)
    vault = open_vault(golden.store())
    member = vault.keyring.members[second.opener]
    vault.use_opener(unlock(member.recipient, golden.passphrase))
    # The passphrase came before all sessions, so it opens all of them.
    assert reading.listing(vault, reading.reader_of(vault, tmp_path)) == reading.expected(golden.name)
    assert reading.second_listing(second, by_footers=True) == reading.expected(golden.name)


def test_both_readers_see_the_same_members() -> None:
    golden = reading.load("v1-large")
    second = second_reader.Vault(golden.objects, second_reader.read_kit(golden.kits[0]))
    vault = reading.open_golden(golden)
    recipients = {who: second.label(member.label) for who, member in second.keyring.recipients.items()}
    writers = {who: second.label(label) for who, label in second.keyring.writer_labels.items()}
    assert sorted(recipients.values()) == ["first kit", "passphrase", "second kit"]
    assert sorted(writers.values()) == ["host-a", "host-b"]
    assert [writers[who] for who in second.keyring.revoked] == ["host-b"]
    for who, member in vault.keyring.members.items():
        assert vault.secret.read_label(member.label, "keyring") == recipients[who]
    for who, writer in vault.keyring.writers.items():
        assert vault.secret.read_label(writer.label, "keyring") == writers[who]
        assert (writer.revoked_at is not None) == (who in second.keyring.revoked)


def test_nothing_is_wrong_with_a_golden_vault(golden: Golden, tmp_path: Path) -> None:
    vault = reading.open_golden(golden)
    report = verify_structure(vault, Silent())
    verify_content(vault, reading.reader_of(vault, tmp_path), report, 100, Silent())
    assert report.findings == []
    assert report.structure.objects == len(golden.snapshot)
    assert report.packs_read == sum(name.startswith("packs/") for name in golden.snapshot)
    assert not any(key.missing for key in survey(vault, Silent()).keys.values())


def test_what_is_expected_is_what_the_recipe_puts_in() -> None:
    made = [large_tree(1), large_tree(2), small_tree(), [], large_tree(3)]
    assert sorted(lines_of(items) for items in made) == sorted(expected_points("v1-large"))
    assert expected_points("v1-small") == [lines_of(small_tree())]


def lines_of(items: list[MadeUpItem]) -> list[str]:
    lines = []
    names: list[bytes] = []
    for item in items:
        names[item.depth :] = [item.name]
        entry = reading.as_second(b"/".join(names), item.entry)
        lines.append(second_reader.line(entry, hashlib.sha256(item.data).hexdigest()))
    return lines


def expected_points(name: str) -> list[list[str]]:
    points: list[list[str]] = []
    for line in reading.expected(name):
        if line.startswith("point "):
            points.append([])
        elif not line.startswith("problem "):
            points[-1].append(line)
    return points


def test_a_golden_vault_has_an_object_of_every_kind() -> None:
    for name in NAMES:
        folders = {name.partition("/")[0] for name in reading.load(name).snapshot}
        assert folders == {"vault", "keyring", "sessions", "seals", "packs", "index", "manifests"}
