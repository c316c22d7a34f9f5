"""Half-empty packs are copied forward, never changed, and nothing is lost on the way."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from donjon.core.errors import DonjonError
from donjon.core.units import MIB
from donjon.format import names
from donjon.format.pack import PackKind
from donjon.plan.retention import Policy
from donjon.repository import packer
from donjon.stores.memory import MemoryStore
from donjon.testing.faulty import Crash, Fault, FaultyStore
from tests.integration.custody import Custody
from tests.integration.engine import DAY, Place
from tests.integration.witnesses import Watched


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A vault whose packs are small, with a point of 40 files in several packs."""
    limit = packer.PACK_BYTES[PackKind.DATA]
    packer.PACK_BYTES[PackKind.DATA] = 2 * MIB
    made = Place.make(tmp_path / "place", lock_s=30 * DAY)
    yield made
    packer.PACK_BYTES[PackKind.DATA] = limit


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    randomness = random.Random(3)
    for number in range(40):
        (folder / f"f{number:02}").write_bytes(randomness.randbytes(200_000))
    return folder


def rewrite(source: Path, share: int) -> None:
    """All files but every ``share``-th one are something else now."""
    for number, path in enumerate(sorted(source.iterdir())):
        if number % share:
            path.write_bytes(random.Random(number + 1000).randbytes(200_000))


def sizes(place: Place) -> dict[str, int]:
    return {info.name: info.size_bytes for info in place.store.list(names.PACKS)}


def test_half_empty_packs_are_left_behind(place: Place, source: Path) -> None:
    host = place.host
    host.backup(place.store, source)
    rewrite(source, 8)
    host.backup(place.store, source)
    first, second = (set(point.point.uses) for point in place.points())
    old = first & second
    assert old  # every eighth file is in a pack of the first point
    done = host.backup(place.store, source, compact_percent=30)
    assert done.packs_left > 0
    assert done.counts.problems == []
    third = set(place.points()[-1].point.uses)
    kinds = {(row.session, row.ordinal): row.kind for row in place.verify().structure.indexed.values()}
    assert not {key for key in old & third if kinds[key[1:]] == PackKind.DATA}
    assert 5 * 200_000 <= done.bytes_stored < 2 * MIB  # what was needed of them, and no more
    place.assert_restores(source)
    place.assert_sound()
    again = host.backup(place.store, source, compact_percent=30)
    assert again.bytes_stored < 10_000
    assert again.counts.files_unmodified == 40


def test_what_is_full_enough_is_relied_on(place: Place, source: Path) -> None:
    host = place.host
    host.backup(place.store, source)
    rewrite(source, 2)
    host.backup(place.store, source)
    done = host.backup(place.store, source, compact_percent=20)
    assert (done.packs_left, done.counts.files_unmodified) == (0, 40)
    assert done.bytes_stored < 10_000


def test_other_workloads_of_the_host_count_too(place: Place, source: Path, tmp_path: Path) -> None:
    """A pack that another workload still fills is not half empty."""
    host = place.host
    twin = tmp_path / "twin"
    shutil.copytree(source, twin)
    host.backup(place.store, source)
    host.backup(place.store, twin, workload="twin")
    rewrite(source, 8)
    host.backup(place.store, source)
    assert host.backup(place.store, source, compact_percent=60).packs_left == 0


def test_nothing_is_known_without_a_cache(place: Place, source: Path) -> None:
    host = place.host
    host.backup(place.store, source)
    rewrite(source, 8)
    host.backup(place.store, source)
    shutil.rmtree(host.cache.folder)
    done = host.backup(place.store, source, compact_percent=50)
    assert done.packs_left == 0
    place.assert_restores(source)


def test_a_vault_without_locks_is_compacted_as_well(tmp_path: Path, source: Path) -> None:
    place = Place.make(tmp_path / "place")
    place.backup(source)
    rewrite(source, 8)
    place.backup(source)
    done = place.host.backup(place.store, source, compact_percent=50)
    assert done.packs_left == 1
    place.assert_restores(source)
    place.assert_sound()


def test_what_was_left_behind_goes_with_the_points_that_need_it(tmp_path: Path, source: Path) -> None:
    watched = Watched.make(tmp_path / "watched", lock_s=30 * DAY)
    custody = Custody(watched)
    place, last = watched.place, Policy(last=1)
    place.backup(source)
    rewrite(source, 8)
    place.backup(source)
    place.host.backup(place.store, source, compact_percent=30)
    before = sum(sizes(place).values())
    for _ in range(7):
        custody.wait(5)
        custody.extend(last)
    custody.reap(last)
    after = sum(sizes(place).values())
    assert after < 41 * 200_000 + MIB < before
    place.assert_restores(source)
    place.assert_sound()


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
def test_compacting_may_fail_at_any_call(tmp_path: Path, source: Path, fault: Fault) -> None:
    place = Place.make(tmp_path / "place", lock_s=30 * DAY)
    place.backup(source)
    rewrite(source, 8)
    place.backup(source)
    start, cache = place.store.snapshot(), tmp_path / "kept"
    shutil.copytree(place.host.cache.folder, cache)
    counting = FaultyStore(place.store)
    place.host.backup(counting, source, compact_percent=50)
    for number in range(1, len(counting.calls) + 1):
        place.store = MemoryStore.from_snapshot(start, place.clock)
        shutil.rmtree(place.host.cache.folder)
        shutil.copytree(cache, place.host.cache.folder)
        with contextlib.suppress(Crash, DonjonError):
            place.host.backup(FaultyStore(place.store, {number: fault}), source, compact_percent=50)
        place.host.backup(place.store, source, compact_percent=50)
        place.assert_restores(source)
    place.assert_sound()
