"""The port to an object store, as a vault under WORM needs it.

There is no overwrite, no rename and no append. A put creates or fails. Names are relative, made of
lowercase letters, digits, ``.``, ``-`` and ``/``. Adapters raise only errors of ``donjon.core.errors``.
All times are whole Unix seconds **by the store's own clock**.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from donjon.core.errors import IntegrityFailure

Buffer = bytes | bytearray | memoryview


class LockEnforcement(enum.Enum):
    """Who stops a delete or an overwrite of a locked object."""

    NONE = "none"  #: the store cannot hold locks at all
    ADVISORY = "advisory"  #: Donjon alone; anyone else with access to the medium can delete
    KERNEL = "kernel"  #: the operating system refuses, but its administrator can lift the lock
    PROVIDER = "provider"  #: the storage provider refuses, whoever asks


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store says about one version of one object.

    ``version`` is None where the store has no versions. ``stored_at`` and ``retain_until`` are Unix
    seconds; ``retain_until`` is None for an object without a lock. A ``delete_marker`` has no bytes.
    """

    name: str
    size_bytes: int
    stored_at: int
    retain_until: int | None = None
    version: str | None = None
    is_latest: bool = True
    delete_marker: bool = False


class ObjectStore(ABC):
    """A flat set of immutable objects. All methods may be called from many threads."""

    #: Address for people, without secrets.
    url: str

    @property
    @abstractmethod
    def lock_enforcement(self) -> LockEnforcement:
        """How strong the locks of this store are, here and now."""

    @abstractmethod
    def now(self) -> int:
        """The store's own clock, in Unix seconds."""

    @abstractmethod
    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        """Create an object, whole or not at all, durable on return, locked from its first moment.

        Raises ``ObjectExists`` if the name is taken (nothing changes), ``LocksUnsupported`` if a lock
        is wanted and cannot be had, ``StoreFull``, ``PermissionMissing``, ``StoreUnavailable``.
        """

    @abstractmethod
    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        """The bytes from ``offset`` (negative: from the end) on, at most ``length`` of them.

        A range that reaches beyond the end gives what is there. Raises ``ObjectNotFound``.
        """

    def get_into(self, name: str, buffer: memoryview, *, offset: int = 0) -> None:
        """Fill ``buffer`` with the bytes from ``offset`` on, so that hot paths can reuse memory.

        Raises ``IntegrityFailure`` if the object ends before the buffer is full.
        """
        data = self.get(name, offset=offset, length=len(buffer))
        if len(data) != len(buffer):
            raise truncated(name, offset + len(buffer), offset + len(data))
        buffer[:] = data

    @abstractmethod
    def head(self, name: str, *, version: str | None = None) -> ObjectInfo:
        """What the store knows about an object. Raises ``ObjectNotFound``."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every version of every object whose name starts with ``prefix``, sorted by name."""

    @abstractmethod
    def extend(self, name: str, retain_until: int, *, version: str | None = None) -> ObjectInfo:
        """Move the end of a lock into the future; never towards the past.

        Raises ``ObjectLocked`` if the present lock ends later, ``ObjectNotFound``, ``LocksUnsupported``.
        """

    @abstractmethod
    def delete_expired(self, name: str, *, version: str | None = None) -> None:
        """Delete one version whose lock has ended by the store's clock, or that never had one.

        Raises ``ObjectLocked`` while the lock holds, ``ObjectNotFound``.
        """

    def close(self) -> None:
        """Give back connections and descriptors. Calling it twice is harmless."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def truncated(name: str, expected_bytes: int, found_bytes: int) -> IntegrityFailure:
    """The error for an object that ends too early."""
    return IntegrityFailure(
        f"{name}: ends at byte {found_bytes}, expected {expected_bytes}",
        hint="The object was cut short; restore this vault from another copy, or run `donjon verify`.",
    )
