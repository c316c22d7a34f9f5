"""Files whose content comes from streams, such as the output of a database dump."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
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


class StreamsSource:
    """Several streams as files of one tree, by their names, which may be paths; directories are made up.

    Each is read once, when its turn comes, one after the other in the order of the tree. They belong to the
    caller. Raises ``UsageError`` for a name that is no path, or that another one needs as a directory.
    """

    def __init__(self, streams: Mapping[bytes, ByteStream], *, clock: Clock = system_clock) -> None:
        self._streams = {_names(name): stream for name, stream in streams.items()}
        self._clock = clock
        for names in self._streams:
            if any(names[:depth] in self._streams for depth in range(1, len(names))):
                msg = f"{os.fsdecode(b'/'.join(names))!r} lies in something that is a file"
                raise UsageError(msg, hint="Choose another name.")

    @property
    def paths(self) -> tuple[bytes, ...]:
        """The absolute paths of all files, in order."""
        return tuple(b"/" + b"/".join(names) for names in sorted(self._streams))

    def items(self) -> Iterator[Item]:
        """The directories, each before what is in it, and the files. May be consumed once."""
        now = self._clock()
        made: set[tuple[bytes, ...]] = set()
        for names in sorted(self._streams):
            last = len(names) - 1
            for depth in range(last):
                if names[: depth + 1] not in made:
                    made.add(names[: depth + 1])
                    yield _StreamItem(names, depth, now, None)
            yield _StreamItem(names, last, now, self._streams[names])

    def problems(self) -> list[tuple[bytes, str]]:
        """Nothing: there is nothing to list."""
        return []


class StreamSource(StreamsSource):
    """One stream as a file called ``name``; see ``StreamsSource``."""

    def __init__(self, name: bytes, stream: ByteStream, *, clock: Clock = system_clock) -> None:
        super().__init__({name: stream}, clock=clock)


def _names(path: bytes) -> tuple[bytes, ...]:
    names = tuple(path.removeprefix(b"/").split(b"/"))
    if any(part in (b"", b".", b"..") or b"\0" in part for part in names):
        msg = f"{os.fsdecode(path)!r} cannot name a file"
        raise UsageError(msg, hint="Write a path without '.' and '..'.")
    return names


class _StreamItem:
    """The file, or with ``stream`` None a directory above it."""

    __slots__ = ("_content", "_names", "_now", "_stream", "depth", "is_file", "link_group")

    def __init__(self, names: tuple[bytes, ...], depth: int, now: int, stream: ByteStream | None) -> None:
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
