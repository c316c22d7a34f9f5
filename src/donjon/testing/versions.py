"""The versions of objects that a front keeps, for emulators that have none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Version:
    """One version of an object. Times are Unix seconds by the front's clock.

    ``data`` holds the bytes once the version is not current any more; until then the emulator has them.
    """

    name: str
    version: str
    created_at: int
    size_bytes: int
    current: bool = True
    retain_until: int | None = None
    mode: str | None = None  #: "Locked" or "Unlocked", as Azure and Google Cloud both call it
    hold: bool = False
    data: bytes | None = None

    def retained(self, now: int) -> bool:
        """Whether a retention, of any mode, holds this version at ``now``."""
        return self.retain_until is not None and self.retain_until > now


class Versions:
    """All versions in one bucket or container. The caller sees to it that one thread changes them."""

    def __init__(self) -> None:
        self._names: dict[str, list[Version]] = {}

    def current(self, name: str) -> Version | None:
        """The version that a request without a version means."""
        return next((version for version in self._names.get(name, ()) if version.current), None)

    def find(self, name: str, version: str | None) -> Version | None:
        """A version by its id, or the current one."""
        if version is None:
            return self.current(name)
        return next((found for found in self._names.get(name, ()) if found.version == version), None)

    def add(self, version: Version) -> None:
        """A new current version; the caller has archived or removed the one before."""
        self._names.setdefault(version.name, []).append(version)

    def remove(self, version: Version) -> None:
        """Forget a version."""
        versions = self._names[version.name]
        versions.remove(version)
        if not versions:
            del self._names[version.name]

    def all(self, prefix: str = "") -> Iterator[Version]:
        """Every version, sorted by name and oldest first."""
        for name in sorted(self._names):
            if name.startswith(prefix):
                yield from list(self._names[name])
