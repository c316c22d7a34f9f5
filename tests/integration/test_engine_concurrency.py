"""Several backups at once, and backups while others read."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from donjon.core.units import MIB
from donjon.format.pack import PackKind
from donjon.repository.packer import PACK_BYTES
from donjon.repository.points import OpenPoint
from tests.integration.engine import Place, change, fill


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACK_BYTES, PackKind.DATA, 2 * MIB)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path / "place")


def _at_once(*works: Callable[[], object]) -> None:
    """Run all of them in threads that start together; errors come out."""
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> object:
        barrier.wait(10)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(run, work) for work in works]:
            done.result(120)


def _of(place: Place, workload: str) -> list[OpenPoint]:
    return [point for point in place.points() if point.body.workload == workload]


def test_backups_of_one_workload_at_once_are_all_correct(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, 120, 1, size_bytes=40_000)
    _at_once(*[lambda: place.backup(source)] * 4)
    assert len(place.points()) == 4
    for point in place.points():
        place.assert_restores(source, point)
    place.assert_sound()
    change(source, 2)
    place.backup(source)
    place.assert_restores(source)


def test_backups_of_different_workloads_at_once_are_all_correct(place: Place, tmp_path: Path) -> None:
    sources = [tmp_path / f"source{number}" for number in range(3)]
    for number, source in enumerate(sources):
        fill(source, 60, number % 2, size_bytes=40_000)  # two of them have the same content
    for _ in range(2):
        _at_once(*[lambda s=source: place.backup(s, workload=s.name) for source in sources])
    for source in sources:
        assert len(_of(place, source.name)) == 2
        place.assert_restores(source, _of(place, source.name)[-1])
    place.assert_sound()


def test_hosts_back_up_at_once_and_never_rely_on_each_other(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, 100, 1, size_bytes=40_000)
    hosts = [place.host, place.add_host(), place.add_host()]
    _at_once(*[lambda h=host: h.backup(place.store, source) for host in hosts])
    change(source, 2)
    _at_once(*[lambda h=host: h.backup(place.store, source) for host in hosts])
    points = place.points()
    assert len(points) == 6
    for host in hosts:
        (*_, last) = [p for p in points if p.point.manifest.writer == host.credential.writer_id]
        assert {key[0] for key in last.point.uses} == {host.credential.writer_id}
        place.assert_restores(source, last)
    place.assert_sound()


def test_backups_go_on_while_the_vault_is_verified_and_restored(place: Place, tmp_path: Path) -> None:
    source, other = tmp_path / "source", tmp_path / "other"
    fill(source, 150, 1, size_bytes=40_000)
    fill(other, 150, 7, size_bytes=40_000)
    place.backup(source)
    point = place.points()[0]

    def back_up() -> None:
        for seed in range(4):
            change(other, seed)
            place.backup(other, workload="other")

    def verify() -> None:
        for _ in range(4):
            place.assert_sound()

    def restore() -> None:
        for _ in range(4):
            place.assert_restores(source, point)

    _at_once(back_up, verify, restore)
    place.assert_restores(other, _of(place, "other")[-1])
    place.assert_sound()


def test_one_cache_serves_sessions_that_crashed_and_sessions_that_run(place: Place, tmp_path: Path) -> None:
    """A running session's journal is not taken for one that a crash left."""
    source = tmp_path / "source"
    fill(source, 60, 1, size_bytes=60_000)
    inside, go_on = threading.Event(), threading.Event()
    real = place.store.put

    def slow(name: str, *arguments: object, **options: object) -> object:
        if name.startswith("packs/") and not inside.is_set():
            inside.set()
            go_on.wait(60)
        return real(name, *arguments, **options)  # type: ignore[arg-type]

    place.store.put = slow  # type: ignore[method-assign, assignment]
    first = threading.Thread(target=place.backup, args=(source,))
    first.start()
    try:
        assert inside.wait(60)
        place.backup(source)
    finally:
        go_on.set()
        first.join(60)
    assert len(place.points()) == 2
    for point in place.points():
        place.assert_restores(source, point)
    assert not list(os.scandir(place.host.cache.folder / "journal" / place.host.credential.writer_id.hex()))
