"""A store in memory that keeps versions and delete markers, as a bucket of S3 does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from donjon.core.errors import ObjectHidden
from donjon.stores.base import (
    Buffer,
    LockEnforcement,
    ObjectInfo,
    ObjectStore,
    already_exists,
    byte_range,
    not_found,
    still_locked,
)
from donjon.testing.clock import ManualClock


@dataclass(frozen=True)
class _Version:
    info: ObjectInfo
    data: bytes


class VersionedStore(ObjectStore):
    """Listings tell no locks, as those of S3. ``lay_over`` and ``hide`` are what an attacker may do."""

    url = "memory:versions"
    lists_locks = False

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._names: dict[str, list[_Version]] = {}
        self._ids = itertools.count(1)

    @property
    def lock_enforcement(self) -> LockEnforcement:
        return LockEnforcement.PROVIDER

    def now(self) -> int:
        return self._clock()

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        versions = self._names.get(name)
        if versions and not versions[-1].info.delete_marker:
            raise already_exists(name)
        return self._add(name, bytes(data), retain_until)

    def lay_over(self, name: str, data: bytes, retain_until: int | None = None) -> ObjectInfo:
        return self._add(name, data, retain_until)

    def hide(self, name: str) -> ObjectInfo:
        return self._add(name, b"", None, marker=True)

    def _add(self, name: str, data: bytes, retain_until: int | None, *, marker: bool = False) -> ObjectInfo:
        info = ObjectInfo(
            name, len(data), self._clock(), retain_until, f"v{next(self._ids)}", delete_marker=marker
        )
        self._names.setdefault(name, []).append(_Version(info, data))
        return info

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        data = self._find(name, version).data
        start, count = byte_range(len(data), offset, length)
        return data[start : start + count]

    def head(self, name: str, *, version: str | None = None) -> ObjectInfo:
        return self._find(name, version).info

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for name, versions in sorted(self._names.items()):
            if name.startswith(prefix):
                for number, version in enumerate(reversed(versions)):
                    yield replace(version.info, retain_until=None, is_latest=number == 0)

    def extend(self, name: str, retain_until: int, *, version: str | None = None) -> None:
        found = self._find(name, version)
        if (found.info.retain_until or 0) > retain_until:
            raise still_locked(name, "shorten its lock", found.info.retain_until or 0)
        self._replace(found, replace(found, info=replace(found.info, retain_until=retain_until)))

    def delete_expired(self, name: str, *, version: str | None = None) -> None:
        versions = self._names.get(name, [])
        found = self._find(name, version, markers=True)
        if (found.info.retain_until or 0) > self.now():
            raise still_locked(name, "delete", found.info.retain_until or 0)
        versions.remove(found)
        if not versions:
            del self._names[name]

    def _replace(self, old: _Version, new: _Version) -> None:
        versions = self._names[old.info.name]
        versions[versions.index(old)] = new

    def _find(self, name: str, version: str | None, *, markers: bool = False) -> _Version:
        for found in reversed(self._names.get(name, ())):
            if version in (None, found.info.version):
                if found.info.delete_marker and not markers:
                    msg = f"{name}: is hidden by a delete marker"
                    raise ObjectHidden(msg)
                return found
        raise not_found(name, version)
