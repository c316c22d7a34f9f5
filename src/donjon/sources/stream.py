"""One file whose content comes from a stream, such as the output of a database dump."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Protocol

from donjon.core.clock import Clock, system_clock
from donjon.core.errors import UsageError
from donjon.format.entries import Entry, Kind
from donjon.sources.base import Content, Item

#: The size of a stream that was not read to its end. Larger than any file, so that nobody takes it for
#: an empty or a small one.
UNKNOWN_SIZE = 1 << 62


class ByteStream(Protocol):
    """What is needed of a stream; every buffered reader of the standard library has it."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read the next bytes; 0 means the end."""


class StreamSource:
    """The stream as a file called ``name``, which may be a path; the directories above are made up.

    The stream is read once and belongs to the caller. Raises ``UsageError`` for a name that is no path.
    """

    def __init__(self, name: bytes, stream: ByteStream, *, clock: Clock = system_clock) -> None:
        names = name.removeprefix(b"/").split(b"/")
        if any(part in (b"", b".", b"..") or b"\0" in part for part in names):
            raise UsageError(
                f"{os.fsdecode(name)!r} cannot name a file", hint="Write a path without '.' and '..'."
            )
        self._names = names
        self._stream = stream
        self._clock = clock

    def items(self) -> Iterator[Item]:
        """The directories above, then the file. May be consumed once."""
        now = self._clock()
        last = len(self._names) - 1
        for depth in range(last):
            yield _StreamItem(self._names, depth, now, None)
        yield _StreamItem(self._names, last, now, self._stream)

    def problems(self) -> list[tuple[bytes, str]]:
        """Nothing: there is nothing to list."""
        return []


class _StreamItem:
    """The file, or with ``stream`` None a directory above it."""

    __slots__ = ("_content", "_names", "_now", "_stream", "depth", "is_file", "link_group")

    def __init__(self, names: list[bytes], depth: int, now: int, stream: ByteStream | None) -> None:
        self._names = names
        self._now = now
        self._stream = stream
        self._content: _StreamContent | None = None
        self.depth = depth
        self.is_file = stream is not None
        self.link_group: tuple[int, int] | None = None

    @property
    def name(self) -> bytes:
        return self._names[self.depth]

    @property
    def path(self) -> bytes:
        return b"/" + b"/".join(self._names[: self.depth + 1])

    @property
    def size(self) -> int:
        """The bytes that the stream had, ``UNKNOWN_SIZE`` before its end was seen."""
        if not self.is_file:
            return 0
        return self._content.size if self._content is not None and self._content.ended else UNKNOWN_SIZE

    def same_as(self, previous: Entry) -> bool:
        """Never: nobody knows before reading it."""
        return False

    def describe(self) -> Entry:
        """The metadata: owned by who runs this, and as old as the run. The size is 0 before the end."""
        return Entry(
            depth=self.depth,
            name=self.name,
            kind=int(Kind.FILE if self.is_file else Kind.DIRECTORY),
            mode=0o600 if self.is_file else 0o755,
            uid=os.geteuid(),
            gid=os.getegid(),
            mtime_s=self._now,
            ctime_s=self._now,
            size=self.size if self.size != UNKNOWN_SIZE else 0,
        )

    def open(self) -> Content:
        """The content, once. Raises ``OSError``."""
        if self._stream is None or self._content is not None:
            raise OSError(errno.EINVAL, "cannot be read (again)", self.path)
        self._content = _StreamContent(self._stream, self.path)
        return self._content

    def refresh(self) -> None:
        """Nothing to look at. Raises ``OSError``, as a stream cannot be read again."""
        raise OSError(errno.EINVAL, "cannot be read (again)", self.path)


class _StreamContent:
    __slots__ = ("_path", "_stream", "ended", "extents", "size")

    def __init__(self, stream: ByteStream, path: bytes) -> None:
        self._stream = stream
        self._path = path
        self.extents: tuple[tuple[int, int], ...] | None = None
        self.size = 0
        self.ended = False

    def readinto(self, buffer: memoryview) -> int:
        filled = 0
        while filled < len(buffer) and not self.ended:
            got = self._stream.readinto(buffer[filled:])
            if got is None:
                raise OSError(errno.EAGAIN, "the stream does not wait for data", self._path)
            self.ended = got == 0
            filled += got
        self.size += filled
        return filled

    def close(self) -> bool:
        """Whether the stream was read to its end."""
        return self.ended
