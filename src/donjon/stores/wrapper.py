"""A store around another one, which passes every call on. Wrappers override what they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from donjon.stores.base import BucketFault, Buffer, LockEnforcement, ObjectInfo, ObjectStore, Write

T = TypeVar("T")


class StoreWrapper(ObjectStore):
    """Passes every call on to ``inner``, through ``_around`` where the call reaches the store."""

    def __init__(self, inner: ObjectStore) -> None:
        """``inner`` is closed together with the wrapper."""
        self.inner = inner
        self.url = inner.url
        self.lists_locks = inner.lists_locks
        self.makes_buckets = inner.makes_buckets
        self.parallel = inner.parallel

    @property
    def lock_enforcement(self) -> LockEnforcement:
        """That of the inner store."""
        return self.inner.lock_enforcement

    def now(self) -> int:
        """The inner store's clock, in Unix seconds."""
        return self.inner.now()

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        """See the port."""
        return self._around("put", name, lambda: self.inner.put(name, data, retain_until=retain_until))

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        """See the port."""
        return self._around(
            "get", name, lambda: self.inner.get(name, offset=offset, length=length, version=version)
        )

    def stream(self, name: str, size_bytes: int, write: Write, *, version: str | None = None) -> None:
        """See the port."""
        self._around("stream", name, lambda: self.inner.stream(name, size_bytes, write, version=version))

    def head(self, name: str, *, version: str | None = None) -> ObjectInfo:
        """See the port."""
        return self._around("head", name, lambda: self.inner.head(name, version=version))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See the port. Subclasses override this, for a listing is not one call."""
        return self.inner.list(prefix)

    def extend(self, name: str, retain_until: int, *, version: str | None = None) -> None:
        """See the port."""
        self._around("extend", name, lambda: self.inner.extend(name, retain_until, version=version))

    def delete_expired(self, name: str, *, version: str | None = None) -> None:
        """See the port."""
        self._around("delete_expired", name, lambda: self.inner.delete_expired(name, version=version))

    def check_bucket(self, lock_s: int) -> Sequence[BucketFault]:
        """See the port."""
        return self._around("check_bucket", "", lambda: self.inner.check_bucket(lock_s))

    def make_bucket(self, lock_s: int) -> None:
        """See the port."""
        self._around("make_bucket", "", lambda: self.inner.make_bucket(lock_s))

    def close(self) -> None:
        """Close the inner store."""
        self.inner.close()

    def _around(self, method: str, name: str, call: Callable[[], T]) -> T:
        """Carry out one call of ``method`` on the object ``name``."""
        return call()
