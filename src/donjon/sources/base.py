"""The port to what is backed up: a sorted stream of items, each able to describe and read itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, cast, runtime_checkable

from donjon.format.entries import Entry


class Content(Protocol):
    """The open data of one file."""

    #: (offset, length) pairs that hold data, or None for a file without holes.
    extents: tuple[tuple[int, int], ...] | None

    def readinto(self, buffer: memoryview) -> int:
        """Read the next bytes of data, holes left out; 0 means the end. Raises ``OSError``."""

    def close(self) -> bool:
        """Close, and tell whether the file stayed the same while it was read."""


class Item(Protocol):
    """One file, directory or other thing that a source found."""

    @property
    def depth(self) -> int:
        """0 for the items right below the root."""

    @property
    def name(self) -> bytes:
        """The last component of the path."""

    @property
    def path(self) -> bytes:
        """For messages and progress."""

    @property
    def size(self) -> int:
        """Bytes of content; 0 for everything but files."""

    @property
    def is_file(self) -> bool:
        """Whether ``open`` may be called."""

    @property
    def link_group(self) -> tuple[int, int] | None:
        """(device, inode) of a file that has several names, else None."""

    def same_as(self, previous: Entry) -> bool:
        """Whether nothing has changed since ``previous`` was described, going by the metadata alone."""

    def describe(self) -> Entry:
        """Everything but the content. Raises ``OSError``."""

    def open(self) -> Content:
        """Open for reading. Raises ``OSError``; ``FileNotFoundError`` if it vanished.

        What ``describe`` says afterwards is of the file that was opened.
        """

    def refresh(self) -> None:
        """Look at a file again, after it changed while it was read. Raises ``OSError``."""


class OpenVolume(Protocol):
    """A disk as a whole, open. Its bytes can be read anywhere, by many threads at once."""

    #: In bytes; that of the moment when it was opened.
    size: int
    #: How many reads at once make it fastest.
    parallel: int
    #: What it is best cut into, a power of two: what is told to have changed is a multiple of it, or tiny.
    extent_bytes: int
    #: What the user should know though nothing is wrong, once ``close`` was called.
    notes: Sequence[str]

    def data(self) -> Iterable[tuple[int, int]]:
        """(offset, length) of what may hold data, ascending; all else reads as zeros."""

    def changes_since(self, previous: Entry) -> Iterable[tuple[int, int]] | None:
        """(offset, length) of all that may differ from a previous entry of this volume, ascending.

        What has been added at the end belongs to it. None if nobody knows.
        """

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer with what is there. Raises ``OSError``, ``SourceFailed`` if all is lost."""

    def close(self) -> list[str]:
        """Close, and tell what was wrong with what was read, though it is worth keeping."""


class Volume(Item, Protocol):
    """A file that is a disk: it can be read in pieces, and may know what has changed."""

    def open_volume(self) -> OpenVolume:
        """Open it. ``describe`` comes when it has been read. Raises ``OSError``, ``SourceFailed``."""


def as_volume(item: Item) -> Volume | None:
    """The item as a volume, if it is one."""
    return cast("Volume", item) if hasattr(item, "open_volume") else None


class Source(Protocol):
    """Something to back up."""

    def items(self) -> Iterator[Item]:
        """Pre-order, names in ascending byte order. May be consumed once."""

    def problems(self) -> list[tuple[bytes, str]]:
        """(path, reason) of what could not be listed so far."""


@runtime_checkable
class Expecting(Protocol):
    """What a source has as well if opening takes long and much of it can go on at once, as over a network."""

    def expect(self, item: Item) -> None:
        """This small file will be opened soon; those told so far and not opened yet are a few thousand."""
