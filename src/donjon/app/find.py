"""Searching the trees of many points. Segments that points share are searched once."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from donjon.app.diff import content_of
from donjon.codec.digest import digest
from donjon.core.errors import IntegrityFailure, UsageError
from donjon.core.units import parse_size
from donjon.format.entries import Entry, Kind
from donjon.repository.points import OpenPoint
from donjon.repository.reading import ChunkReader
from donjon.repository.tree import Tree, sort_key

_KINDS = {
    "f": (Kind.FILE,),
    "d": (Kind.DIRECTORY,),
    "l": (Kind.SYMLINK,),
    "s": (Kind.FIFO, Kind.SOCKET, Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE),
}

Matches = Callable[[bytes, Entry], bool]


@dataclass(frozen=True, slots=True)
class Question:
    """What to look for.

    ``pattern`` is a glob on the name or, if it has a slash, on the whole path, where ``*`` takes slashes
    too. Sizes are in bytes and of files only; times are in Unix seconds, the bounds included.
    """

    pattern: str = "*"
    min_bytes: int | None = None
    max_bytes: int | None = None
    newer: int | None = None
    older: int | None = None
    kinds: tuple[int, ...] = ()
    ignore_case: bool = False

    def compile(self) -> Matches:
        """The test for one item."""
        text = self.pattern
        whole = "/" in text
        if whole and not text.startswith(("/", "*")):
            text = "*/" + text
        flags = re.DOTALL | (re.IGNORECASE if self.ignore_case else 0)
        fits = re.compile(os.fsencode(fnmatch.translate(text)), flags).match

        def matches(path: bytes, entry: Entry) -> bool:
            if not fits(b"/" + path if whole else entry.name):
                return False
            if self.kinds and entry.kind not in self.kinds:
                return False
            if (self.newer is not None and entry.mtime_s < self.newer) or (
                self.older is not None and entry.mtime_s > self.older
            ):
                return False
            return self._fits_size(entry)

        return matches

    def _fits_size(self, entry: Entry) -> bool:
        if self.min_bytes is None and self.max_bytes is None:
            return True
        return (
            entry.kind == Kind.FILE
            and (self.min_bytes is None or entry.size >= self.min_bytes)
            and (self.max_bytes is None or entry.size <= self.max_bytes)
        )


def parse_sizes(texts: Iterable[str]) -> tuple[int | None, int | None]:
    """(least, most) bytes for ``+10M``, ``-1K`` (both included) or an exact size. Raises ``UsageError``."""
    least = most = None
    for text in texts:
        size = parse_size(text.lstrip("+-") if text[:1] in "+-" else text)
        if not text.startswith("-"):
            least = size if least is None else max(least, size)
        if not text.startswith("+"):
            most = size if most is None else min(most, size)
    return least, most


def parse_kinds(letters: Iterable[str]) -> tuple[int, ...]:
    """Kinds for ``f``, ``d``, ``l`` and ``s`` (special). Raises ``UsageError``."""
    kinds: list[int] = []
    for letter in letters:
        if letter not in _KINDS:
            msg = f"{letter!r} is no type of item"
            raise UsageError(msg, hint="Use f (file), d (directory), l (link) or s (special).")
        kinds += _KINDS[letter]
    return tuple(kinds)


@dataclass(slots=True)
class Version:
    """One version of one item, and the points that have it, oldest first."""

    path: bytes
    entry: Entry
    points: list[OpenPoint] = field(default_factory=list)


@dataclass(slots=True)
class Answer:
    """What was found, by path and then by age; and what could not be searched."""

    versions: list[Version]
    damage: list[IntegrityFailure]


def find(points: Iterable[OpenPoint], question: Question, reader: ChunkReader) -> Answer:
    """Search points, oldest first. Memory grows with what is found, not with what is searched."""
    search = _Search(question, reader)
    for point in points:
        search.add(point)
    versions = sorted(search.versions.values(), key=lambda found: sort_key(found.path))
    return Answer(versions, search.damage)


class _Search:
    def __init__(self, question: Question, reader: ChunkReader) -> None:
        self.versions: dict[bytes, Version] = {}
        self.damage: list[IntegrityFailure] = []
        self._matches = question.compile()
        self._reader = reader
        # What each segment gave, so that one that many points share is read once.
        self._seen: dict[tuple[bytes, bytes], tuple[bytes, ...]] = {}

    def add(self, point: OpenPoint) -> None:
        tree = Tree(point, self._reader)
        for record in tree.segments(self.damage.append):
            place = (record.chunk, record.first_path)
            if (keys := self._seen.get(place)) is None:
                try:
                    entries = tree.read_segment(record)
                except IntegrityFailure as error:
                    self.damage.append(error)
                    continue
                keys = self._seen[place] = tuple(
                    self._remember(path, entry) for path, entry in entries if self._matches(path, entry)
                )
            for key in keys:
                version = self.versions[key]
                if not version.points or version.points[-1] is not point:
                    version.points.append(point)

    def _remember(self, path: bytes, entry: Entry) -> bytes:
        key = version_key(path, entry)
        self.versions.setdefault(key, Version(path, msgspec.structs.replace(entry, chunks=b"")))
        return key


def version_key(path: bytes, entry: Entry) -> bytes:
    """Equal for equal versions of an item: all that a restore would bring back."""
    return digest(
        msgspec.msgpack.encode(
            (
                path,
                entry.kind,
                entry.mode,
                (entry.uid, entry.gid, entry.user, entry.group),
                (entry.mtime_s, entry.mtime_ns),
                content_of(entry),
                entry.xattrs,
            )
        )
    )[:16]
