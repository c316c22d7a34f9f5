"""The metadata of a tree as a stream of entries in content-defined segments.

A segment ends where the name of its last entry says so, so a change touches the segment around it and
leaves all others the same. Segments know nothing of each other; a list of them, the root, gives their
order. See ``docs/format.md``, "Metadata".
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta
from msgspec.msgpack import Decoder

from donjon.core.errors import IntegrityFailure
from donjon.format.entries import (
    CHUNK_ID_BYTES,
    MAX_DEPTH,
    MAX_NAME_BYTES,
    Entry,
    Kind,
)
from donjon.format.pack import MAX_FRAME_RAW_BYTES

#: One name in this many ends a segment.
SEGMENT_DIVISOR = 512
MAX_SEGMENT_ENTRIES = 4096
#: A segment is closed once its entries weigh this much.
SEGMENT_TARGET_BYTES = 1 << 20
#: An entry may weigh no more, so that a segment always fits into a frame.
MAX_ENTRY_BYTES = 3 << 20
#: A list of segments or problems is cut after this many, or once they weigh as much as a segment.
RECORDS_PER_CHUNK = 4096

_FIXED_WEIGHT = 96
_RECORD_WEIGHT = 48
_PROBLEM_WEIGHT = 16
_NAME = re.compile(rb"(?!\.\.?\Z)[^/\0]{1,%d}" % MAX_NAME_BYTES).fullmatch
# Comparing with a plain number costs a third of comparing with a member of an enumeration.
_FILE, _SYMLINK = int(Kind.FILE), int(Kind.SYMLINK)

T = TypeVar("T")


class SegmentRecord(msgspec.Struct, array_like=True, frozen=True):
    """One segment as the root lists it: the chunk that holds it, the path of its first entry."""

    chunk: bytes
    first_path: bytes
    entries: int


class Problem(msgspec.Struct, array_like=True, frozen=True):
    """An item that could not be read, or only after it had changed, and why."""

    path: bytes
    reason: str


_encode = msgspec.msgpack.Encoder().encode
# The decoder refuses longer lists before it builds anything: an element may have three bytes and take 300.
_MANY = Meta(max_length=max(MAX_SEGMENT_ENTRIES, RECORDS_PER_CHUNK))
_entries: Decoder[list[Entry]] = Decoder(Annotated[list[Entry], _MANY])
_records: Decoder[list[SegmentRecord]] = Decoder(Annotated[list[SegmentRecord], _MANY])
_problems: Decoder[list[Problem]] = Decoder(Annotated[list[Problem], _MANY])


def weight(entry: Entry) -> int:
    """About how many bytes an entry takes; part of the rule that ends segments."""
    total = _FIXED_WEIGHT + len(entry.name) + len(entry.chunks)
    total += len(entry.target) + len(entry.statistics)
    if entry.xattrs:
        total += sum(len(name) + len(value) + 16 for name, value in entry.xattrs)
    if entry.extents:
        total += 18 * len(entry.extents)
    return total


def ends_segment(entry: Entry, entries: int, weight_bytes: int) -> bool:
    """Whether a segment of this many entries and bytes, ``entry`` the last of them, ends here."""
    return (
        zlib.crc32(entry.name) % SEGMENT_DIVISOR == 0
        or entries >= MAX_SEGMENT_ENTRIES
        or weight_bytes >= SEGMENT_TARGET_BYTES
    )


def encode_segment(entries: list[Entry]) -> bytes:
    """The bytes of a segment."""
    return _encode(entries)


def decode_segment(data: bytes | memoryview, what: str) -> list[Entry]:
    """The entries, each checked by itself. Raises ``IntegrityFailure``."""
    if len(data) > MAX_FRAME_RAW_BYTES:
        msg = f"{what}: a metadata segment of {len(data)} bytes"
        raise IntegrityFailure(msg)
    try:
        entries = _entries.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        msg = f"{what}: a metadata segment cannot be read: {error}"
        raise IntegrityFailure(msg) from error
    for entry in entries:
        name = entry.name
        if not possible_name(name):
            msg = f"{what}: an entry has the impossible name {name!r}"
            raise IntegrityFailure(msg)
        if not _plausible(entry):
            msg = f"{what}: the entry {name!r} holds values that cannot be"
            raise IntegrityFailure(msg)
    return entries


def possible_name(name: bytes) -> bool:
    """Whether this can be one component of a path, and nothing more."""
    return _NAME(name) is not None


def _plausible(entry: Entry) -> bool:
    """Whether the values go together; the range of each was checked when it was decoded."""
    return (_plausible_file(entry) if entry.kind == _FILE else _plausible_other(entry)) and (
        not entry.xattrs or all(name and b"\0" not in name for name, _ in entry.xattrs)
    )


def _plausible_other(entry: Entry) -> bool:
    is_link = entry.kind == _SYMLINK
    return (
        not entry.chunks
        and not entry.indirect
        and entry.extents is None
        and entry.size == 0
        and is_link == bool(entry.target)
        and b"\0" not in entry.target
    )


def _plausible_file(entry: Entry) -> bool:
    if len(entry.chunks) % CHUNK_ID_BYTES or entry.target:
        return False
    if entry.extents is None:
        return True
    at = 0
    for offset, length in entry.extents:
        if offset < at or length <= 0:
            return False
        at = offset + length
    return at <= entry.size


class Order:
    """Checks that a stream of entries is a tree in order, and gives each its path."""

    def __init__(self, what: str, first_path: bytes = b"") -> None:
        """Start at the beginning, or at a segment whose first entry has ``first_path``."""
        self._what = what
        self._names: list[bytes] = first_path.split(b"/") if first_path else []
        self._prefix = b""
        self._fresh = True
        self._last_is_directory = True
        self._starts_inside = bool(first_path)

    def path(self, entry: Entry) -> bytes:
        """The path of the next entry, relative to the root. Raises ``IntegrityFailure``."""
        names, depth = self._names, entry.depth
        if self._fresh:
            self._fresh = False
            if self._starts_inside:
                if depth != len(names) - 1 or names[-1] != entry.name:
                    raise self._disorder(entry)
                self._last_is_directory = entry.kind == Kind.DIRECTORY
                self._prefix = b"".join(name + b"/" for name in names[:-1])
                return b"/".join(names)
            if depth != 0:
                raise self._disorder(entry)
        known = len(names)
        if depth < known:
            if not names[depth] < entry.name:
                raise self._disorder(entry)
            if depth < known - 1:
                del names[depth + 1 :]
                self._prefix = b"".join(name + b"/" for name in names[:-1])
            names[depth] = entry.name
        elif depth > known or not self._last_is_directory:
            raise self._disorder(entry)
        else:
            self._prefix = b"".join(name + b"/" for name in names)
            names.append(entry.name)
        self._last_is_directory = entry.kind == Kind.DIRECTORY
        return self._prefix + entry.name

    def _disorder(self, entry: Entry) -> IntegrityFailure:
        msg = f"{self._what}: the entry {entry.name!r} at depth {entry.depth} is out of order"
        return IntegrityFailure(msg)


def follows(last_path: bytes, last_is_directory: bool, first_path: bytes) -> bool:
    """Whether a segment may start with ``first_path`` where the one before ended with ``last_path``.

    Before the first segment the last path is empty, and a directory.
    """
    last, first = last_path.split(b"/") if last_path else [], first_path.split(b"/")
    depth = len(first) - 1
    if depth == len(last):
        return last_is_directory and first[:depth] == last
    return depth < len(last) and first[:depth] == last[:depth] and last[depth] < first[depth]


def encode_root(records: Iterable[SegmentRecord]) -> Iterator[bytes]:
    """The chunks of a root."""
    return _encode_lists(records, lambda record: _RECORD_WEIGHT + len(record.first_path))


def _encode_lists(things: Iterable[T], weigh: Callable[[T], int]) -> Iterator[bytes]:
    batch: list[T] = []
    total = 0
    for thing in things:
        batch.append(thing)
        total += weigh(thing)
        if len(batch) == RECORDS_PER_CHUNK or total >= SEGMENT_TARGET_BYTES:
            yield _encode(batch)
            batch, total = [], 0
    if batch:
        yield _encode(batch)


def decode_root(data: bytes | memoryview, what: str) -> list[SegmentRecord]:
    """The records of one chunk of a root. Raises ``IntegrityFailure``."""
    try:
        records = _records.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        msg = f"{what}: the list of metadata segments cannot be read: {error}"
        raise IntegrityFailure(msg) from error
    if not all(
        len(record.chunk) == CHUNK_ID_BYTES and record.entries >= 1 and _possible_path(record.first_path)
        for record in records
    ):
        msg = f"{what}: the list of metadata segments is damaged"
        raise IntegrityFailure(msg)
    return records


def _possible_path(path: bytes) -> bool:
    names = path.split(b"/")
    return len(names) <= MAX_DEPTH and all(map(possible_name, names))


def encode_problems(problems: Iterable[Problem]) -> Iterator[bytes]:
    """The chunks of a list of problems."""
    return _encode_lists(
        problems, lambda problem: _PROBLEM_WEIGHT + len(problem.path) + len(problem.reason.encode())
    )


def decode_problems(data: bytes | memoryview, what: str) -> list[Problem]:
    """The problems in one chunk of the list. Raises ``IntegrityFailure``."""
    try:
        return _problems.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        msg = f"{what}: its list of problems cannot be read: {error}"
        raise IntegrityFailure(msg) from error
