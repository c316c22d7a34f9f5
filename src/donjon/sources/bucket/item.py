"""One object, version, delete marker or made-up directory of a bucket."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import msgspec

from donjon.clouds.objects.base import Got, Listed, Metadata, ObjectChanged, Objects
from donjon.clouds.objects.entries import attributes_of, attributes_of_marker, is_same
from donjon.core.errors import (
    CredentialsRejected,
    ObjectNotFound,
    PermissionMissing,
    SourceFailed,
    StoreError,
    StoreUnavailable,
)
from donjon.core.units import MIB
from donjon.format.entries import Entry, Kind
from donjon.sources.base import Content
from donjon.sources.bucket.content import RANGE_BYTES, RangesContent, WholeContent
from donjon.sources.bucket.listing import SEPARATOR

NS_PER_S: Final = 1_000_000_000
#: Objects up to this size come in one answer.
WHOLE_BYTES: Final = 1 * MIB
_LAST_LOOK: Final = 2
_GROUP: Final = 8


class Reading:
    """What the items of one source share: the bucket, and the threads that ask it."""

    def __init__(self, objects: Objects, threads: int) -> None:
        self.objects = objects
        self.pool = ThreadPoolExecutor(threads, "donjon-bucket")
        self.uid, self.gid = os.geteuid(), os.getegid()

        self._mutex = threading.Lock()
        self._group = Group()

    def expect(self, item: BucketItem) -> None:
        """Ask for a small object with the next few."""
        with self._mutex:
            group = item.group = self._group
            group.items.append(item)
            if len(group.items) == _GROUP:
                self._start()

    def wait(self, group: Group) -> None:
        """Return when a group is there."""
        with self._mutex:
            if group is self._group:
                self._start()
        assert group.done is not None  # noqa: S101  (it was started, now or before)
        group.done.result()

    def read(self, listed: Listed) -> Got:
        """Ask for an object, or if it is large for its first range."""
        if listed.size_bytes <= WHOLE_BYTES:
            return self.objects.read(listed)
        return self.objects.read(listed, offset=0, length=RANGE_BYTES)

    def _start(self) -> None:
        group, self._group = self._group, Group()
        group.done = self.pool.submit(self._read_all, group)

    def _read_all(self, group: Group) -> None:
        for item in group.items:
            assert item.listed is not None  # noqa: S101  (nothing else is expected)
            try:
                item.found = self.read(item.listed)
            except Exception as error:
                item.found = error  # raised where it is opened
        group.items.clear()


class Group:
    """A few small objects that one thread asks for one after the other: a thread pool costs less so."""

    __slots__ = ("done", "items")

    def __init__(self) -> None:
        self.items: list[BucketItem] = []
        self.done: Future[None] | None = None


class BucketItem(msgspec.Struct, gc=False, eq=False):
    """See ``Item``. ``place`` is its path, with ``SEPARATOR`` for the slash; ``listed`` None: a directory.

    ``pinned``: the list named a version, and that is what is read.
    """

    depth: int
    name: bytes
    is_file: bool
    place: bytes
    listed: Listed | None
    reading: Reading
    pinned: bool = False
    looks: int = 0
    group: Group | None = None
    found: Got | Exception | None = None
    metadata: Metadata | None = None

    @property
    def path(self) -> bytes:
        """The path in the point, with a slash before it."""
        return b"/" + self.place.replace(SEPARATOR, b"/")

    @property
    def size(self) -> int:
        """Bytes of content; 0 for everything but objects."""
        return self.listed.size_bytes if self.listed is not None else 0

    @property
    def link_group(self) -> tuple[int, int] | None:
        """None: nothing in a bucket has two names."""
        return None

    def same_as(self, previous: Entry) -> bool:
        """Whether size, time, ETag and version, as far as they are listed, are those of ``previous``."""
        listed = self.listed
        if listed is None:
            return previous.kind == Kind.DIRECTORY
        return (
            previous.kind == Kind.FILE
            and previous.size == listed.size_bytes
            and previous.mtime_s * NS_PER_S + previous.mtime_ns == listed.modified_ns
            and is_same(listed, previous.xattrs)
        )

    def expect(self) -> None:
        """Begin to read, for ``open`` will be called soon."""
        if self.listed is not None and not self.listed.is_marker and self.group is None:
            self.reading.expect(self)

    def describe(self) -> Entry:
        """What was listed, or read if it was opened. Objects belong to nobody: to who runs this, alone."""
        listed, reading = self.listed, self.reading
        if listed is None:
            return Entry(self.depth, self.name, int(Kind.DIRECTORY), 0o700, reading.uid, reading.gid)
        if listed.is_marker:
            xattrs = attributes_of_marker(listed)
        else:
            xattrs = attributes_of(listed, self.metadata or Metadata())
        seconds, nanoseconds = divmod(listed.modified_ns, NS_PER_S)
        return Entry(
            depth=self.depth,
            name=self.name,
            kind=int(Kind.FILE),
            mode=0o600,
            uid=reading.uid,
            gid=reading.gid,
            mtime_s=seconds,
            mtime_ns=nanoseconds,
            size=listed.size_bytes,
            xattrs=xattrs,
        )

    def open(self) -> Content:
        """Read it, as it is now. Raises ``OSError``, and ``SourceFailed`` if the bucket cannot be reached."""
        if self.listed is None:
            raise OSError(errno.EISDIR, "is a directory and cannot be read", self.path)
        if self.listed.is_marker:
            return WholeContent(b"")
        with self._translating():
            while True:
                try:
                    got = self._ask()
                except ObjectChanged:
                    self._look_again()
                    continue
                break
        self._take(got)
        if len(got.data) == got.listed.size_bytes:
            return WholeContent(got.data)
        return RangesContent(self.path, got, self._ask_range, last_try=self.looks >= _LAST_LOOK)

    def refresh(self) -> None:
        """Look at it again, after it changed. Raises ``OSError``."""
        with self._translating():
            self._look_again()

    def _ask(self) -> Got:
        """What was asked for beforehand, else what is there now."""
        group, self.group = self.group, None
        if group is not None:
            self.reading.wait(group)
            found, self.found = self.found, None
            if isinstance(found, Exception):
                raise found
            if found is not None:
                return found
        assert self.listed is not None  # noqa: S101  (only objects are read)
        return self.reading.read(self.listed)

    def _take(self, got: Got) -> None:
        listed, told = self.listed, got.listed
        assert listed is not None  # noqa: S101  (only objects are read)
        if told.etag == listed.etag and told.size_bytes == listed.size_bytes:
            # Lists tell the time more finely than answers do, and the next one is compared with this entry.
            told = msgspec.structs.replace(told, modified_ns=listed.modified_ns)
        self.listed, self.metadata = told, got.metadata

    def _ask_range(self, offset: int, length: int) -> Future[Got]:
        listed, objects = self.listed, self.reading.objects
        assert listed is not None  # noqa: S101  (only objects have ranges)
        if not self.pinned:  # to name a version takes a permission of its own at S3
            listed = msgspec.structs.replace(listed, version="")

        def ask() -> Got:
            with self._translating():
                return objects.read(listed, offset=offset, length=length, tags=False)

        return self.reading.pool.submit(ask)

    def _look_again(self) -> None:
        listed = self.listed
        if listed is None or self.pinned or self.looks >= _LAST_LOOK:
            raise OSError(errno.ESTALE, "changed each time that it was read, so it was left out", self.path)
        self.looks += 1
        found = self.reading.objects.look(listed.key)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "vanished before it was read", self.path)
        self.listed = msgspec.structs.replace(found[0], version="")

    @contextmanager
    def _translating(self) -> Iterator[None]:
        """What concerns this object alone becomes an ``OSError``; the rest ends the backup."""
        try:
            yield
        except (CredentialsRejected, ObjectChanged):
            raise
        except ObjectNotFound as error:
            raise FileNotFoundError(errno.ENOENT, "vanished before it was read", self.path) from error
        except PermissionMissing as error:
            raise OSError(errno.EACCES, error.message, self.path) from error
        except StoreUnavailable as error:
            raise SourceFailed(error.message, hint=error.hint, retryable=True) from error
        except StoreError as error:
            raise OSError(errno.EIO, error.message, self.path) from error
