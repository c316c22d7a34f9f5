"""The port to what is backed up: a sorted stream of items, each able to describe and read itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

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


class Source(Protocol):
    """Something to back up."""

    def items(self) -> Iterator[Item]:
        """Pre-order, names in ascending byte order. May be consumed once."""

    def problems(self) -> list[tuple[bytes, str]]:
        """(path, reason) of what could not be listed so far."""
