"""Locks and clocks: what a backup may rely on, and what a wrong clock must not break."""

from __future__ import annotations

from pathlib import Path

import pytest

from donjon.core.errors import ObjectLocked, Refused
from donjon.format import names
from donjon.stores.memory import MemoryStore
from donjon.testing.clock import ManualClock
from tests.integration.engine import DAY, Place, change, fill

YEAR = 365 * DAY


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path / "place", lock_s=30 * DAY)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 80, 1, size_bytes=20_000)
    return folder


def test_every_object_is_locked_from_its_first_second(place: Place, source: Path) -> None:
    place.backup(source)
    now = place.clock()
    found = list(place.store.list())
    assert len(found) >= 6
    for info in found:
        assert info.retain_until is not None
        assert now + 30 * DAY <= info.retain_until <= now + 31 * DAY
        with pytest.raises(ObjectLocked):
            place.store.delete_expired(info.name, version=info.version)
    assert [point.point.manifest.protected_until for point in place.points()] == [found[0].retain_until]


def test_a_pack_is_relied_on_only_while_its_lock_outlasts_the_longest_backup(
    place: Place, source: Path
) -> None:
    first = place.backup(source)
    place.clock.advance(20 * DAY)
    second = place.backup(source)
    assert second.bytes_stored < first.bytes_stored / 4
    assert second.protected_until <= first.protected_until
    place.clock.advance(8 * DAY)  # two days of lock are left: too few for the longest backup and a margin
    third = place.backup(source)
    assert third.bytes_stored > first.bytes_stored * 0.9
    assert third.protected_until >= place.clock() + 30 * DAY
    assert third.counts.files_unmodified == 0  # they were read again, as their data had to be stored again
    place.assert_restores(source)
    place.assert_sound()


def test_what_no_longer_is_locked_can_go_without_harm_to_newer_points(place: Place, source: Path) -> None:
    place.backup(source)
    place.clock.advance(28 * DAY)
    change(source, 2)
    place.backup(source)
    place.clock.advance(4 * DAY)
    gone = 0
    for info in list(place.store.list()):
        if not info.name.startswith((names.PACKS, names.INDEX)):
            continue
        if (info.retain_until or 0) <= place.clock():
            place.store.delete_expired(info.name, version=info.version)
            gone += 1
    assert gone
    place.assert_restores(source)


def test_a_backup_that_took_too_long_is_not_committed(place: Place, source: Path) -> None:
    real = place.store.put

    def slow(name: str, *arguments: object, **options: object) -> object:
        if name.startswith(names.PACKS):
            place.clock.advance(2 * DAY)
        return real(name, *arguments, **options)  # type: ignore[arg-type]

    place.store.put = slow  # type: ignore[method-assign, assignment]
    with pytest.raises(Refused, match="longer than this vault allows"):
        place.backup(source)
    assert place.points() == []
    place.store.put = real  # type: ignore[method-assign]
    place.backup(source)
    place.assert_restores(source)


@pytest.mark.parametrize("shift", [-10 * YEAR, -DAY, 3 * YEAR, 20 * YEAR])
def test_a_wrong_clock_of_the_host_gives_a_warning_and_loses_nothing(
    place: Place, source: Path, shift: int
) -> None:
    place.backup(source)
    change(source, 2)
    wrong = ManualClock(place.clock() + shift)
    place.host.clock = wrong
    outcome = place.backup(source)
    assert any("check the clock" in warning for warning in outcome.warnings)
    assert len(place.points()) == 2
    place.assert_restores(source)  # the order of points and their locks follow the store's clock
    assert 30 * DAY <= outcome.protected_until - place.clock() <= 31 * DAY
    place.host.clock = place.clock
    change(source, 3)
    place.backup(source)
    assert len(place.points()) == 3
    place.assert_sound()


def test_a_store_whose_clock_went_back_relies_on_nothing_less(tmp_path: Path, source: Path) -> None:
    place = Place.make(tmp_path / "other", lock_s=30 * DAY)
    place.backup(source)
    place.clock.advance(-5 * YEAR)
    place.backup(source)
    place.assert_restores(source)
    place.assert_sound()


def test_without_locks_a_vault_takes_part_in_nothing_of_this(tmp_path: Path, source: Path) -> None:
    place = Place.make(tmp_path / "free")
    first = place.backup(source)
    place.clock.advance(10 * YEAR)
    second = place.backup(source)
    assert second.bytes_stored < first.bytes_stored / 4
    assert isinstance(place.store, MemoryStore)
    assert all(info.retain_until is None for info in place.store.list())
