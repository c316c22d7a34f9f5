"""The oldest version of a name is the object; what came later is an attack or an accident.

In a bucket with versions whoever may put or delete can lay a newer version or a delete marker over an object
that no one can remove. Every honest put creates a name, so the oldest version is the one that counts, and it
can be read for as long as it is locked.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from donjon.core.errors import CredentialsRejected, ObjectNotFound, PermissionMissing
from donjon.stores.base import ObjectInfo, ObjectStore, Write, not_found, validate_name
from donjon.stores.wrapper import StoreWrapper

T = TypeVar("T")

#: About 20 MB.
_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class _First:
    """The oldest version of a name; None where the store tells of none."""

    version: str | None


def first_of_each(entries: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
    """The oldest version of each name in a listing; names that only have delete markers are left out."""
    for _, versions in itertools.groupby(entries, key=lambda info: info.name):
        first = _oldest(versions)
        if first is not None:
            yield first


class FirstVersions(StoreWrapper):
    """Lets calls without a version mean the oldest one, through delete markers and newer versions.

    It asks for the versions of a name once, by a listing of that name, unless a listing has told them before.
    A credential that may not list (a writer) reads what the store has on top; its put never replaces, and
    what it reads is its own. ``list`` gives every version.
    """

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self._known: OrderedDict[str, _First] = OrderedDict()
        self._may_list = True
        self._mutex = threading.Lock()

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        """See the port."""
        return self._on_first(
            name, version, lambda v: self.inner.get(name, offset=offset, length=length, version=v)
        )

    def stream(self, name: str, size_bytes: int, write: Write, *, version: str | None = None) -> None:
        """See the port."""
        self._on_first(name, version, lambda v: self.inner.stream(name, size_bytes, write, version=v))

    def head(self, name: str, *, version: str | None = None) -> ObjectInfo:
        """See the port."""
        return self._on_first(name, version, lambda v: self.inner.head(name, version=v))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See the port."""
        try:
            for name, group in itertools.groupby(self.inner.list(prefix), key=lambda info: info.name):
                versions = tuple(group)
                self._remember(name, versions)
                yield from versions
        except PermissionMissing:
            self._may_list = False
            raise

    def extend(self, name: str, retain_until: int, *, version: str | None = None) -> None:
        """See the port."""
        self._on_first(name, version, lambda v: self.inner.extend(name, retain_until, version=v))

    def delete_expired(self, name: str, *, version: str | None = None) -> None:
        """See the port."""
        self._on_first(name, version, lambda v: self.inner.delete_expired(name, version=v))
        self._forget(name)

    def _on_first(self, name: str, version: str | None, call: Callable[[str | None], T]) -> T:
        if version is not None:
            return call(version)
        try:
            return call(self._first(name).version)
        except ObjectNotFound:  # perhaps that version was deleted since, after its lock had ended
            if not self._forget(name):
                raise
            return call(self._first(name).version)

    def _first(self, name: str) -> _First:
        """The oldest version of a name. Raises ``ObjectNotFound``."""
        validate_name(name)
        with self._mutex:
            if name in self._known:
                self._known.move_to_end(name)
                return self._known[name]
        if self._may_list:
            try:
                versions = tuple(itertools.takewhile(lambda info: info.name == name, self.inner.list(name)))
            except CredentialsRejected:
                raise
            except PermissionMissing:
                self._may_list = False
            else:
                if (first := self._remember(name, versions)) is None:
                    raise not_found(name)
                return first
        return _First(None)

    def _remember(self, name: str, versions: tuple[ObjectInfo, ...]) -> _First | None:
        oldest = _oldest(versions)
        if oldest is None:
            return None
        first = _First(oldest.version)
        with self._mutex:
            self._known[name] = first
            self._known.move_to_end(name)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return first

    def _forget(self, name: str) -> bool:
        with self._mutex:
            return self._known.pop(name, None) is not None


def _oldest(versions: Iterable[ObjectInfo]) -> ObjectInfo | None:
    """The last one that has bytes, as listings give the newest first."""
    oldest = None
    for info in versions:
        if not info.delete_marker:
            oldest = info
    return oldest
