"""The port to an object store, as a vault under WORM needs it.

There is no overwrite, no rename and no append. A put creates or fails. Names are relative, made of
lowercase letters, digits, ``.``, ``-`` and ``/``; ``validate_name`` has the rule. No name may be the
folder of another (``a`` beside ``a/b``), for some stores keep folders. Adapters raise only errors of
``donjon.core.errors``. All times are whole Unix seconds **by the store's own clock**.
"""

from __future__ import annotations

import enum
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from donjon.core.clock import iso
from donjon.core.errors import (
    IntegrityFailure,
    LocksUnsupported,
    ObjectExists,
    ObjectLocked,
    ObjectNotFound,
    UsageError,
)

Buffer = bytes | bytearray | memoryview
#: Takes a piece of an object: (offset, bytes).
Write = Callable[[int, memoryview], object]

#: S3 and GCS allow 1024 bytes; the rest is left to the prefix that an address may carry.
MAX_NAME_BYTES = 512
#: Most file systems allow 255 bytes; the rest is left to the names of temporary files.
MAX_NAME_PART_BYTES = 200

_NAME_PART = re.compile(r"[a-z0-9-][a-z0-9.-]*")
_PREFIX_TAIL = re.compile(r"(?:[a-z0-9-][a-z0-9.-]*)?")


class LockEnforcement(enum.Enum):
    """Who stops a delete or an overwrite of a locked object."""

    NONE = "none"  #: the store cannot hold locks at all
    ADVISORY = "advisory"  #: Donjon alone; anyone else with access to the medium can delete
    KERNEL = "kernel"  #: the operating system refuses, but its administrator can lift the lock
    GOVERNANCE = "governance"  #: the provider refuses, but some administrators can lift the bucket's default
    PROVIDER = "provider"  #: the storage provider refuses, whoever asks


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store says about one version of one object.

    ``version`` is None where the store has no versions. ``stored_at`` and ``retain_until`` are Unix
    seconds; ``retain_until`` is None for an object without a lock. A ``delete_marker`` has no bytes.
    ``is_weakly_locked`` is told by ``head`` alone: some administrators of the provider can lift the lock.
    """

    name: str
    size_bytes: int
    stored_at: int
    retain_until: int | None = None
    version: str | None = None
    is_latest: bool = True
    delete_marker: bool = False
    is_weakly_locked: bool = False


@dataclass(frozen=True, slots=True)
class BucketFault:
    """Why a bucket or container must not hold a vault as it is, and the command that mends it.

    A ``weak`` one leaves locks that the provider's administrators could lift; a user may choose so.
    """

    fault: str
    fix: str
    weak: bool = False


class ObjectStore(ABC):
    """A flat set of immutable objects. All methods may be called from many threads."""

    #: Address for people, without secrets.
    url: str
    #: Whether ``list`` tells ``retain_until``. Where it does not, None there means unknown; ``head`` tells.
    lists_locks = True
    #: Whether ``make_bucket`` can do something here.
    makes_buckets = False
    #: How many large objects are best read at a time. From afar one connection carries 85 to 90 MB/s at S3,
    #: says https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-design-patterns.html.
    parallel = 1

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

        ``stored_at`` may be some seconds off where the store does not tell it in its answer.

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

    def stream(self, name: str, size_bytes: int, write: Write, *, version: str | None = None) -> None:
        """Hand the first ``size_bytes`` of an object to ``write`` as they arrive, so that memory stays small.

        Pieces come in order, and from the start again after a failure that is tried again. What ``write``
        raises, a ``DonjonError`` only, ends it. Raises ``IntegrityFailure`` if the object is shorter,
        ``ObjectNotFound``.
        """
        data = self.get(name, offset=0, length=size_bytes, version=version)
        if len(data) != size_bytes:
            raise truncated(name, size_bytes, len(data))
        if data:
            write(0, memoryview(data))

    @abstractmethod
    def head(self, name: str, *, version: str | None = None) -> ObjectInfo:
        """What the store knows about an object. Raises ``ObjectNotFound``."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every version of every object whose name starts with ``prefix``, sorted by name.

        Names are compared as strings, so ``a-b`` comes before ``a/b``; the versions of a name come newest
        first, delete markers among them. ``prefix`` may end anywhere in a name. An object put or deleted
        while the listing runs may be in it or not.
        """

    @abstractmethod
    def extend(self, name: str, retain_until: int, *, version: str | None = None) -> None:
        """Move the end of a lock into the future; never towards the past. The present end is no error.

        Locks an object that has no lock yet. One request where ``version`` is given.

        Raises ``ObjectLocked`` if the present lock ends later, ``ObjectNotFound``, ``LocksUnsupported``.
        """

    @abstractmethod
    def delete_expired(self, name: str, *, version: str | None = None) -> None:
        """Delete one version whose lock has ended by the store's clock, or that never had one.

        A lock ends at its ``retain_until``: the object can go from that second on.

        Raises ``ObjectLocked`` while the lock holds, ``ObjectNotFound``.
        """

    def check_bucket(self, lock_s: int) -> Sequence[BucketFault]:
        """What keeps the place from holding a vault whose objects are locked for ``lock_s`` seconds.

        Nothing, where a place has no settings of its own. Raises ``PermissionMissing``.
        """
        del lock_s
        return []

    def make_bucket(self, lock_s: int) -> None:
        """Make the place and mend its faults. Raises ``UsageError`` where Donjon cannot do that."""
        del lock_s
        msg = f"{self.url}: Donjon cannot make a bucket there"
        raise UsageError(msg, hint="Leave out --create.")

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


def validate_name(name: str) -> str:
    """The name itself, if it can be one: relative, portable, and unable to leave the store.

    Every part starts with a letter, a digit or ``-``, so ``..`` and hidden files cannot be named.
    Raises ``IntegrityFailure``, because a bad name can only come from bytes that nobody checked.
    """
    parts = name.split("/")
    if len(name) > MAX_NAME_BYTES or not all(map(is_name_part, parts)):
        raise _bad_name(name)
    return name


def is_name_part(part: str) -> bool:
    """Whether this can stand between the slashes of a name."""
    return len(part) <= MAX_NAME_PART_BYTES and _NAME_PART.fullmatch(part) is not None


def validate_prefix(prefix: str) -> str:
    """The prefix itself, if the name of an object can start with it. Raises ``IntegrityFailure``."""
    folder, _, tail = prefix.rpartition("/")
    if folder:
        validate_name(folder)
    if prefix.startswith("/") or not _PREFIX_TAIL.fullmatch(tail):
        raise _bad_name(prefix)
    return prefix


def byte_range(size_bytes: int, offset: int, length: int | None) -> tuple[int, int]:
    """The first byte and the number of bytes that ``get`` gives of an object of ``size_bytes``."""
    start = min(max(size_bytes + offset, 0) if offset < 0 else offset, size_bytes)
    rest = size_bytes - start
    return start, rest if length is None else max(0, min(length, rest))


def not_found(name: str, version: str | None = None) -> ObjectNotFound:
    """The error for an object, or a version of it, that the store does not have."""
    which = name if version is None else f"{name} (version {version})"
    return ObjectNotFound(
        f"{which}: no such object",
        hint="Look at the store's address and, if it is right, run `donjon verify`.",
    )


def still_locked(name: str, action: str, retain_until: int) -> ObjectLocked:
    """The error for an ``action`` that a lock forbids; ``retain_until`` is the end of that lock."""
    return ObjectLocked(
        f"{name}: cannot {action}, it is locked until {iso(retain_until)}",
        retain_until=retain_until,
        hint="Nobody can shorten a lock; try again after it has ended.",
    )


def already_exists(name: str) -> ObjectExists:
    """The error for a put that finds the name taken."""
    return ObjectExists(f"{name}: exists already", hint="Nothing was changed; objects are never overwritten.")


def locks_unsupported(name: str, url: str, why: str) -> LocksUnsupported:
    """The error for a lock that the store at ``url`` cannot hold; ``why`` is half a sentence."""
    return LocksUnsupported(
        f"{name}: {url} cannot hold locks: {why}",
        hint="Choose a store that holds locks (S3, Azure, Google Cloud, or a folder on ext4, XFS or Btrfs).",
    )


def _bad_name(name: str) -> IntegrityFailure:
    return IntegrityFailure(
        f"{name[:80]!r} cannot be the name of an object",
        hint="Names hold lowercase letters, digits, '.', '-' and '/'. Run `donjon verify` on the vault.",
    )
