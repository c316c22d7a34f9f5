"""Every byte of a small golden vault is changed, and every object is cut at every length.

Verifying finds each of them, and no restore brings back anything but what was stored. One bit of every
byte is tried, and a restore at every fifth place; ``make fuzz`` tries all bits and all places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from donjon.core.errors import DonjonError, IntegrityFailure
from donjon.core.events import Silent
from donjon.keys.base import Opener
from donjon.repository.points import list_points, open_point
from donjon.repository.vault import Vault, open_vault
from donjon.repository.verify import verify_content, verify_structure
from donjon.stores.memory import MemoryStore
from donjon.testing.clock import ManualClock
from tests import second_reader
from tests.fuzz.fuzzing import SECONDS
from tests.golden import reading

GOLDEN = reading.load("v1-small")
LINES = reading.expected("v1-small")
#: Takes some minutes, so not when somebody fuzzes for a few seconds.
ALL_PLACES = SECONDS >= 30
#: What a vault can lose without losing a point: the index is derived, the seal is for another kit.
SPARE = ("index/", "seals/")


def one_of_every_kind() -> list[str]:
    """The names of one object of every kind, and of both packs."""
    found: dict[str, str] = {}
    for name in GOLDEN.snapshot:
        kind = name if name.startswith("packs/") else name.partition("/")[0]
        found.setdefault(kind, name)
    return sorted(found.values())


OBJECTS = pytest.mark.parametrize("name", one_of_every_kind(), ids=lambda name: name[:12])


@pytest.fixture(scope="module")
def opener() -> Opener:
    return GOLDEN.kit().opener()


@pytest.fixture(scope="module")
def second_kit() -> second_reader.Kit:
    return second_reader.read_kit(GOLDEN.kits[0])


def flips(data: bytes) -> Iterator[tuple[int, bytes]]:
    for place in range(len(data)):
        for bit in range(8) if ALL_PLACES else (place % 8,):
            yield place, data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def cuts(data: bytes) -> Iterator[tuple[int, bytes]]:
    return ((size, data[:size]) for size in range(len(data)))


DAMAGES = pytest.mark.parametrize("damage", [flips, cuts], ids=["changed", "cut"])
Damage = Callable[[bytes], Iterator[tuple[int, bytes]]]


def damaged_store(name: str, data: bytes) -> MemoryStore:
    snapshot = {**GOLDEN.snapshot, name: replace(GOLDEN.snapshot[name], data=data)}
    return MemoryStore.from_snapshot(snapshot, ManualClock(1_801_000_000))


def open_with(store: MemoryStore, opener: Opener) -> Vault:
    vault = open_vault(store)
    vault.use_opener(opener)
    return vault


@OBJECTS
@DAMAGES
def test_verify_finds_it(name: str, damage: Damage, opener: Opener, tmp_path: Path) -> None:
    missed = [
        place
        for place, data in damage(GOLDEN.objects[name])
        if not is_found(damaged_store(name, data), opener, tmp_path)
    ]
    assert missed == []


def is_found(store: MemoryStore, opener: Opener, folder: Path) -> bool:
    try:
        vault = open_with(store, opener)
    except IntegrityFailure:
        return True
    report = verify_structure(vault, Silent())
    if report.ok:
        verify_content(vault, reading.reader_of(vault, folder / "cache"), report, 100, Silent())
    return not report.ok


@OBJECTS
@DAMAGES
def test_a_restore_brings_back_the_truth_or_less(
    name: str, damage: Damage, opener: Opener, tmp_path: Path
) -> None:
    for place, data in damage(GOLDEN.objects[name]):
        if place % 5 and not ALL_PLACES:
            continue
        lines: list[str] = []
        try:
            vault = open_with(damaged_store(name, data), opener)
            # A folder of its own each time: what one cache knows must not help the next restore.
            chunks = reading.reader_of(vault, tmp_path / str(place))
            for point in list_points(vault, []):
                lines += reading.restored_lines(open_point(vault, point), chunks, keep_going=True)
        except DonjonError:
            assert not name.startswith(SPARE), f"{name}, byte {place}"
        assert set(lines) <= set(LINES), f"{name}, byte {place}"
        if name.startswith(SPARE):
            assert lines == LINES[1:], f"{name}, byte {place}"


@OBJECTS
@DAMAGES
def test_the_second_reader_gives_the_truth_or_nothing(
    name: str, damage: Damage, second_kit: second_reader.Kit
) -> None:
    for place, data in damage(GOLDEN.objects[name]):
        if place % 5 and not ALL_PLACES:
            continue
        try:
            vault = second_reader.Vault({**GOLDEN.objects, name: data}, second_kit)
            lines = reading.second_listing(vault, by_footers=not name.startswith("index/"))
        except second_reader.Wrong:
            continue
        # What it never looks at is all that it may leave unnoticed.
        assert lines == LINES, f"{name}, byte {place}"
        assert name.startswith("seals/"), f"{name}, byte {place}"


def test_a_swapped_object_is_found(tmp_path: Path) -> None:
    """Objects of one vault, all well signed, under each other's names."""
    large = reading.load("v1-large")
    opener = large.kit().opener()
    for folder in ("keyring/", "sessions/", "seals/", "packs/", "index/", "manifests/"):
        found = [name for name in large.snapshot if name.startswith(folder)]
        for name, other in zip(found, found[1:] + found[:1], strict=True):
            snapshot = {**large.snapshot, name: large.snapshot[other]}
            store = MemoryStore.from_snapshot(snapshot, ManualClock(1_801_000_000))
            assert is_found(store, opener, tmp_path / name), f"{other} as {name}"
