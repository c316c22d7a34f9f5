"""A store in memory, for tests: it keeps what the port promises, locks included, and nothing after exit."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from donjon.core.clock import Clock, system_clock
from donjon.stores.base import (
    Buffer,
    LockEnforcement,
    ObjectInfo,
    ObjectStore,
    already_exists,
    byte_range,
    locks_unsupported,
    not_found,
    still_locked,
    validate_name,
    validate_prefix,
)


@dataclass(frozen=True, slots=True)
class MemoryObject:
    """One object and its lock. Never changed in place, so that snapshots can share it."""

    data: bytes
    stored_at: int
    retain_until: int | None


#: The state of a store at one moment.
MemorySnapshot = Mapping[str, MemoryObject]


class MemoryStore(ObjectStore):
    """A dictionary that obeys the port.

    Locks behave as S3 Object Lock does in COMPLIANCE mode: nobody shortens one or deletes before its
    end by the clock given. ``lock_enforcement`` says PROVIDER, because code under test shall treat this
    fake as it treats a cloud; nothing protects the memory of a process from the process itself.
    """

    def __init__(
        self,
        clock: Clock = system_clock,
        *,
        lock_enforcement: LockEnforcement = LockEnforcement.PROVIDER,
        url: str = "memory:",
    ) -> None:
        """An empty store that tells the time by ``clock``."""
        self.url = url
        self._clock = clock
        self._enforcement = lock_enforcement
        self._objects: dict[str, MemoryObject] = {}
        self._mutex = threading.Lock()

    @classmethod
    def from_snapshot(cls, snapshot: MemorySnapshot, clock: Clock = system_clock) -> MemoryStore:
        """A store that starts with the objects of ``snapshot`` and goes its own way from there."""
        store = cls(clock)
        store._objects = dict(snapshot)
        return store

    def snapshot(self) -> MemorySnapshot:
        """The present state; costs one reference per object, however large the objects are."""
        with self._mutex:
            return dict(self._objects)

    @property
    def lock_enforcement(self) -> LockEnforcement:
        """PROVIDER unless the test asked for something else."""
        return self._enforcement

    def now(self) -> int:
        """The time by the clock given, in Unix seconds."""
        return self._clock()

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        """Create an object; see the port."""
        validate_name(name)
        if retain_until is not None:
            self._need_locks(name)
        item = MemoryObject(bytes(data), self._clock(), retain_until)
        with self._mutex:
            if name in self._objects:
                raise already_exists(name)
            self._objects[name] = item
        return _info(name, item)

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        """A range of the object's bytes; see the port."""
        data = self._find(name, version).data
        start, count = byte_range(len(data), offset, length)
        return data if count == len(data) else data[start : start + count]

    def head(self, name: str, *, version: str | None = None) -> ObjectInfo:
        """What the store knows about an object; see the port."""
        return _info(name, self._find(name, version))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """The objects that exist when the first one is asked for; see the port."""
        validate_prefix(prefix)
        for name, item in sorted(self.snapshot().items()):
            if name.startswith(prefix):
                yield _info(name, item)

    def extend(self, name: str, retain_until: int, *, version: str | None = None) -> None:
        """Move the end of a lock into the future; see the port."""
        with self._mutex:
            item = self._find(name, version)
            self._need_locks(name)
            if item.retain_until is not None and item.retain_until > retain_until:
                raise still_locked(name, "shorten its lock", item.retain_until)
            self._objects[name] = replace(item, retain_until=retain_until)

    def delete_expired(self, name: str, *, version: str | None = None) -> None:
        """Delete an object that no lock holds; see the port."""
        with self._mutex:
            item = self._find(name, version)
            if item.retain_until is not None and item.retain_until > self._clock():
                raise still_locked(name, "delete", item.retain_until)
            del self._objects[name]

    def _find(self, name: str, version: str | None) -> MemoryObject:
        item = self._objects.get(validate_name(name))
        if item is None or version is not None:
            raise not_found(name, version)
        return item

    def _need_locks(self, name: str) -> None:
        if self._enforcement is LockEnforcement.NONE:
            raise locks_unsupported(name, self.url, "the test wants a store without them")


def _info(name: str, item: MemoryObject) -> ObjectInfo:
    return ObjectInfo(name, len(item.data), item.stored_at, item.retain_until)
