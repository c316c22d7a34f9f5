"""The port to where a recovery point is restored. Paths are relative, ``/``-separated, already
checked for ``.``, ``..`` and empty names by the metadata parser, and checked again by the target."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from donjon.core.errors import DonjonError
from donjon.format.entries import Entry

Buffer = bytes | bytearray | memoryview

#: What became of a file: made, or kept as it was, or why neither.
Outcome = bool | OSError | DonjonError


class Overwrite(enum.StrEnum):
    """What to do with something that is already there."""

    NEVER = "never"
    IF_DIFFERENT = "if-different"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class NewFile:
    """A small file with all its data, as (offset, bytes) pieces; what no piece covers is a hole."""

    path: bytes
    entry: Entry
    pieces: Sequence[tuple[int, Buffer]]


class FileWriter(Protocol):
    """One file that is being restored. Nothing is visible under its final name before ``finish``."""

    def write_at(self, offset: int, data: Buffer) -> None:
        """Write data; what is never written stays a hole."""

    def finish(self) -> None:
        """Set size, owner, mode, attributes and times, and give the file its name."""

    def abort(self) -> None:
        """Throw away what was written. Never raises."""


class Target(Protocol):
    """Where entries go. ``write_files``, ``create_file`` and its writers may be used from many threads."""

    def make_directory(self, path: bytes) -> None:
        """Make a directory, open to the owner only; an existing directory is kept."""

    def finish_directory(self, path: bytes, entry: Entry) -> None:
        """Give a directory its owner, mode, attributes and times, after all inside it is done."""

    def write_files(self, files: Sequence[NewFile]) -> list[Outcome]:
        """Make small files. What is wrong with one of them is its outcome, and the others are made."""

    def create_file(self, path: bytes, entry: Entry) -> FileWriter | None:
        """Start a file; None if one is there already and stays as it is."""

    def make_link(self, path: bytes, existing: bytes) -> bool:
        """Make a hard link to a file restored before; False if what is there stays, be it that very link."""

    def make_special(self, path: bytes, entry: Entry) -> bool:
        """Make a symbolic link, fifo, socket or device; False if something is there and stays."""

    def open_existing(self, path: bytes) -> int | None:
        """A read descriptor of the regular file at this path, or None. For comparing contents."""

    def refresh_file(self, path: bytes, entry: Entry) -> None:
        """Set only the metadata of an existing regular file whose content is right already."""
