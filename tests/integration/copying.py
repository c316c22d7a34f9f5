"""A vault in memory with a second store to copy it to."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from donjon.core.events import Silent, StopCheck, never_stop
from donjon.format import names
from donjon.repository.check import check_structure
from donjon.repository.copy import Copied, copy_vault
from donjon.repository.vault import open_vault
from donjon.stores.base import ObjectStore
from donjon.stores.memory import MemorySnapshot, MemoryStore
from donjon.stores.wrapper import StoreWrapper, T
from tests.integration.engine import Place, fill


@dataclass
class Copying:
    """A vault whose points are each of a folder of its own, and the store of the copy.

    The folders share half of their files, so that later points need packs of earlier ones.
    """

    place: Place
    folder: Path
    target: MemoryStore
    sources: list[Path] = field(default_factory=list)

    @classmethod
    def make(cls, folder: Path, *, points: int, lock_s: int = 0) -> Copying:
        place = Place.make(folder / "place", lock_s=lock_s)
        made = cls(place, folder, MemoryStore(place.clock, url="memory:copy"))
        for _ in range(points):
            made.backup()
        return made

    def backup(self) -> Path:
        """One more point, a minute after the one before, of a new folder."""
        number = len(self.sources) + 1
        source = self.folder / f"source{number}"
        fill(source / "same", 8, 0, size_bytes=200_000)
        fill(source / "own", 10, number, size_bytes=500_000)
        self.place.clock.advance(60)
        self.place.backup(source)
        self.sources.append(source)
        return source

    def copy(
        self,
        *,
        source: ObjectStore | None = None,
        target: ObjectStore | None = None,
        lock_s: int = 0,
        dry_run: bool = False,
        stop: StopCheck = never_stop,
    ) -> Copied:
        """One run, by somebody who has no key."""
        vault = open_vault(source or self.place.store)
        to = target or self.target
        return copy_vault(vault, to, lock_s=lock_s, progress=Silent(), stop=stop, dry_run=dry_run)

    @property
    def copied(self) -> Place:
        """The copy, as a vault that the same kit opens."""
        return replace(self.place, store=self.target)

    def reset(self) -> None:
        """An empty target."""
        self.target = MemoryStore(self.place.clock, url="memory:copy")

    def holds(self) -> dict[str, bytes]:
        """The bytes of all objects of the copy."""
        return contents(self.target.snapshot())

    def assert_equal(self) -> None:
        """The copy has every object of the source, and nothing else."""
        assert self.holds() == contents(self.place.store.snapshot())

    def assert_shows_whole_points(self) -> None:
        """Nothing is wrong with what the copy shows; a copy that was just begun may show nothing."""
        if names.VAULT in self.target.snapshot():
            assert check_structure(self.copied.open(), Silent()).findings == []

    def assert_restores(self) -> None:
        """Every point of the copy restores to the folder that it was made of."""
        points = self.copied.points()
        assert len(points) == len(self.sources)
        for source, point in zip(self.sources, points, strict=True):
            self.copied.assert_restores(source, point)
        self.copied.assert_sound()


def contents(snapshot: MemorySnapshot) -> dict[str, bytes]:
    """The bytes of each object."""
    return {name: item.data for name, item in snapshot.items()}


def damaged(data: bytes) -> bytes:
    """One bit of it is another."""
    at = random.Random(len(data)).randrange(len(data))
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


class Interposed(StoreWrapper):
    """Does something once, right before the call with this number reaches the store."""

    def __init__(self, inner: ObjectStore, number: int, deed: Callable[[], object]) -> None:
        super().__init__(inner)
        self.calls = 0
        self._number = number
        self._deed = deed

    def _around(self, method: str, name: str, call: Callable[[], T]) -> T:
        self._step()
        return call()

    def list(self, prefix: str = "") -> Iterator:  # type: ignore[type-arg]
        self._step()
        return self.inner.list(prefix)

    def _step(self) -> None:
        self.calls += 1
        if self.calls == self._number:
            self._deed()


@contextmanager
def changed(store: MemoryStore, name: str, data: bytes | None) -> Iterator[None]:
    """Within, the store has other bytes under a name, or nothing."""
    before = store._objects[name]
    if data is None:
        del store._objects[name]
    else:
        store._objects[name] = replace(before, data=data)
    try:
        yield
    finally:
        store._objects[name] = before
