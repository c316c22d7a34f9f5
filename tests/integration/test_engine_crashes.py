"""The process dies, or a reply is lost, at every call that a backup makes to the store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from donjon.core.errors import DonjonError
from donjon.core.events import Silent
from donjon.core.units import MIB
from donjon.format import names
from donjon.format.pack import PackKind
from donjon.repository.check import check_structure
from donjon.repository.packer import PACK_BYTES
from donjon.stores.base import ObjectStore
from donjon.stores.memory import MemoryStore
from donjon.stores.retry import RetryingStore
from donjon.testing.faulty import Crash, Fault, FaultyStore
from tests.integration.engine import Place, change, fill

FILES = 150
FAULTS = [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.REPLY_LOST, Fault.UNAVAILABLE]


class Stage:
    """A vault and a cache as they were before a backup, to start from again and again."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._objects = place.store.snapshot()
        self._saved = place.folder / "saved-cache"
        self._cache = place.host.cache.folder
        self._cache.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self._cache, self._saved)

    def reset(self) -> None:
        self.place.store = MemoryStore.from_snapshot(self._objects, self.place.clock)
        shutil.rmtree(self._cache)
        shutil.copytree(self._saved, self._cache)


def _data_bytes(store: ObjectStore) -> int:
    return sum(info.size_bytes for info in store.list(names.PACKS))


def _with_faults(
    stage: Stage, source: Path, fault: Fault, wrap: Callable[[ObjectStore], ObjectStore] = lambda s: s
) -> list[bool]:
    """Back up once for every call with the fault at that call; for each, whether the backup committed."""
    place = stage.place
    counting = FaultyStore(place.store)
    place.host.backup(wrap(counting), source)
    outcomes = []
    before = len(place.points()) - 1
    for number in range(1, len(counting.calls) + 1):
        stage.reset()
        try:
            place.host.backup(wrap(FaultyStore(place.store, {number: fault})), source)
        except (Crash, DonjonError):
            committed = len(place.points()) - before
            assert committed in (0, 1)
            # Between the put of the manifest and its reply, the point is there; otherwise it is not.
            if committed:
                assert counting.calls[number - 1].name.startswith(names.MANIFESTS)
            outcomes.append(False)
        else:
            assert len(place.points()) == before + 1
            outcomes.append(True)
        _assert_whole(place)
        place.backup(source)
        place.assert_restores(source)
        place.assert_sound()
    return outcomes


def _assert_whole(place: Place) -> None:
    """Nothing is wrong; packs that no point needs yet are nothing wrong."""
    structure = check_structure(place.open(), Silent())
    assert structure.findings == []


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACK_BYTES, PackKind.DATA, 2 * MIB)


@pytest.fixture
def first(tmp_path: Path) -> tuple[Stage, Path]:
    source = tmp_path / "source"
    fill(source, FILES, 1, size_bytes=70_000)
    return Stage(Place.make(tmp_path / "place")), source


@pytest.fixture
def second(tmp_path: Path) -> tuple[Stage, Path]:
    source = tmp_path / "source"
    fill(source, FILES, 1, size_bytes=70_000)
    place = Place.make(tmp_path / "place")
    place.backup(source)
    change(source, 2)
    return Stage(place), source


@pytest.mark.parametrize("fault", FAULTS)
def test_the_first_backup_may_fail_at_any_call(first: tuple[Stage, Path], fault: Fault) -> None:
    stage, source = first
    outcomes = _with_faults(stage, source, fault)
    assert len(outcomes) >= 5
    assert not all(outcomes)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_later_backup_may_fail_at_any_call(second: tuple[Stage, Path], fault: Fault) -> None:
    stage, source = second
    outcomes = _with_faults(stage, source, fault)
    assert len(outcomes) >= 5
    assert not all(outcomes)


def test_what_a_crash_left_is_not_stored_again(first: tuple[Stage, Path]) -> None:
    stage, source = first
    place = stage.place
    counting = FaultyStore(place.store)
    place.host.backup(counting, source)
    whole = _data_bytes(place.store)
    packs = [n for n, call in enumerate(counting.calls, 1) if call.name.startswith(names.PACKS)]
    assert len(packs) >= 3
    for number in range(packs[0], len(counting.calls) + 1):
        stage.reset()
        with pytest.raises(Crash):
            place.host.backup(FaultyStore(place.store, {number: Fault.CRASH_AFTER}), source)
        left = _data_bytes(place.store)
        place.backup(source)
        assert _data_bytes(place.store) <= whole * 1.05
        assert left > 0
        place.assert_restores(source)


def test_without_its_cache_a_host_goes_on_after_a_crash(first: tuple[Stage, Path]) -> None:
    stage, source = first
    place = stage.place
    counting = FaultyStore(place.store)
    place.host.backup(counting, source)
    for number in range(1, len(counting.calls) + 1):
        stage.reset()
        with pytest.raises(Crash):
            place.host.backup(FaultyStore(place.store, {number: Fault.CRASH_AFTER}), source)
        shutil.rmtree(place.host.cache.folder)
        place.backup(source)
        place.assert_restores(source)
        place.assert_sound()


@pytest.mark.parametrize("fault", [Fault.REPLY_LOST, Fault.UNAVAILABLE])
def test_retries_make_up_for_every_lost_call(second: tuple[Stage, Path], fault: Fault) -> None:
    stage, source = second

    def retrying(store: ObjectStore) -> ObjectStore:
        return RetryingStore(store, sleep=lambda _: None)

    assert all(_with_faults(stage, source, fault, retrying))
    assert len({point.point.name for point in stage.place.points()}) == len(stage.place.points())
