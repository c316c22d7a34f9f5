"""What sources of volumes share: the folders above them, and reading one as if it were any file."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

from donjon.core.errors import UsageError
from donjon.format.entries import Entry, Kind
from donjon.sources.base import Content, Item, OpenVolume


class VolumeItem(ABC):
    """A volume at ``path`` in the point. Adapters say how it is opened and described."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        self._names = path.strip(b"/").split(b"/")
        self.depth = len(self._names) - 1
        self.name = self._names[-1]
        self.is_file = True
        self.link_group: tuple[int, int] | None = None

    @property
    def names(self) -> tuple[bytes, ...]:
        """The path, apart."""
        return tuple(self._names)

    @property
    @abstractmethod
    def size(self) -> int:
        """In bytes."""

    def same_as(self, previous: Entry) -> bool:
        """Whether nothing has changed since, as far as can be told without reading."""
        return False

    @abstractmethod
    def describe(self) -> Entry:
        """Everything but the content."""

    @abstractmethod
    def open_volume(self) -> OpenVolume:
        """Open it."""

    def described(self, modified_at: int, facts: Mapping[bytes, bytes]) -> Entry:
        """The entry of a snapshot of a volume: a file of root, as old as the snapshot, in Unix seconds.

        ``facts`` are attributes of Donjon's own (``docs/format.md``, section 28).
        """
        return Entry(
            self.depth,
            self.name,
            int(Kind.FILE),
            mode=0o600,
            mtime_s=modified_at,
            ctime_s=modified_at,
            size=self.size,
            xattrs=tuple(sorted(facts.items())),
        )

    def open(self) -> Content:
        """Its data from start to end, holes left out."""
        return _VolumeContent(self.open_volume())

    def refresh(self) -> None:  # noqa: B027 - an adapter may leave it as it is
        """Nothing to look at: it is looked at when it is opened."""


class VolumeSource:
    """Volumes as files of one tree, with the folders above them. Raises ``UsageError`` for none at all."""

    def __init__(self, volumes: Sequence[VolumeItem]) -> None:
        if not volumes:
            raise UsageError("there is nothing to back up", hint="Name at least one volume.")
        self._volumes = {volume.names: volume for volume in volumes}

    def items(self) -> Iterator[Item]:
        """Folders and volumes, in order."""
        last: tuple[bytes, ...] = ()
        for names in sorted(self._volumes):
            for depth in range(len(names) - 1):
                if last[: depth + 1] != names[: depth + 1]:
                    yield _Above(names, depth)
            yield self._volumes[names]
            last = names

    def problems(self) -> list[tuple[bytes, str]]:
        """Nothing: there is nothing to list."""
        return []


class _Above:
    """A folder above a volume, made up."""

    is_file = False
    size = 0
    link_group: tuple[int, int] | None = None

    def __init__(self, names: tuple[bytes, ...], depth: int) -> None:
        self.depth = depth
        self.name = names[depth]
        self.path = b"/" + b"/".join(names[: depth + 1])

    def same_as(self, previous: Entry) -> bool:
        """Whether it was made up as well."""
        return previous == self.describe()

    def describe(self) -> Entry:
        """A folder of the user who runs this, without a time."""
        return Entry(
            self.depth, self.name, int(Kind.DIRECTORY), mode=0o755, uid=os.geteuid(), gid=os.getegid()
        )

    def open(self) -> Content:
        """Raises ``OSError``."""
        raise OSError(errno.EISDIR, "is not a file", self.path)

    def refresh(self) -> None:
        """Nothing to look at."""


class _VolumeContent:
    """A volume, read from start to end by one thread."""

    def __init__(self, volume: OpenVolume) -> None:
        self._volume = volume
        found = tuple((offset, length) for offset, length in volume.data() if length)
        self.extents = None if found == ((0, volume.size),) else found
        self._left = list(reversed(found))

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer with the next data, as far as there is any. Raises ``OSError``."""
        filled = 0
        while self._left and filled < len(buffer):
            offset, length = self._left.pop()
            count = min(length, len(buffer) - filled)
            self._volume.read_into(offset, buffer[filled : filled + count])
            if count < length:
                self._left.append((offset + count, length - count))
            filled += count
        return filled

    def close(self) -> bool:
        """Close, and tell whether all was well."""
        return not self._volume.close()
