"""The metadata of the previous point of a workload, in the client's cache.

A writer cannot open what it backed up, so it keeps this copy to tell what has not changed. For each
segment the file also has the packs that the segment and its files need. Without the file every source
is read again, and deduplicated as ever.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from donjon.codec.digest import DIGEST_BYTES, digest
from donjon.core.errors import IntegrityFailure
from donjon.format.entries import CHUNK_ID_BYTES, Entry
from donjon.format.segments import SegmentRecord, decode_segment
from donjon.repository.cache import Cache
from donjon.repository.writing import PackNumber

_VERSION = 2
_MAX_RECORD_BYTES = 1 << 30


class _Header(msgspec.Struct, array_like=True):
    version: int
    workload: str


class _Stored(msgspec.Struct, array_like=True):
    record: SegmentRecord
    packs: list[PackNumber] | None
    data: bytes
    lists: dict[bytes, bytes] = {}


@dataclass(frozen=True, slots=True)
class OldSegment:
    """A segment of a point. ``packs`` is None while it is not known yet.

    ``lists`` has the content of the chunks that hold the chunk ids of very large files, by their ids.
    """

    record: SegmentRecord
    packs: frozenset[PackNumber] | None
    data: bytes
    is_last: bool = False
    lists: dict[bytes, bytes] = field(default_factory=dict)

    def entries(self) -> list[Entry]:
        """The entries. Raises ``IntegrityFailure`` if the cache is damaged."""
        return decode_segment(self.data, "cache of the previous point")


def previous_path(cache: Cache, workload: str) -> Path:
    """Where the metadata of the previous point of a workload is kept."""
    return cache.path("previous", digest(workload.encode()).hex()[:32])


@dataclass(frozen=True, slots=True)
class Totals:
    """What a point had in all, to tell how long the next one will take."""

    items: int
    size_bytes: int


def previous_totals(cache: Cache, workload: str) -> Totals | None:
    """The totals of the previous point of a workload, if they are known."""
    try:
        items, size_bytes = _totals_path(previous_path(cache, workload)).read_text().split()
        return Totals(int(items), int(size_bytes))
    except (FileNotFoundError, ValueError):
        return None


def _totals_path(path: Path) -> Path:
    return path.with_suffix(".totals")


def all_previous(cache: Cache) -> Iterator[Iterator[OldSegment]]:
    """The segments of the previous point of every workload that this host backs up."""
    for path in sorted((cache.folder / "previous").glob("[0-9a-f]*")):
        if not path.suffix:
            yield read_previous(path)


def read_previous(path: Path, workload: str | None = None) -> Iterator[OldSegment]:
    """The segments in order; nothing if there is no (readable) file, or it is of another workload."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        try:
            header = msgspec.msgpack.decode(_read_record(file) or b"", type=_Header)
            if header.version != _VERSION or workload not in (None, header.workload):
                return
            data = _read_record(file)
            while data is not None:
                following = _read_record(file)
                stored = msgspec.msgpack.decode(data, type=_Stored)
                packs = frozenset(stored.packs) if stored.packs is not None else None
                yield OldSegment(stored.record, packs, stored.data, following is None, stored.lists)
                data = following
        except (msgspec.MsgspecError, IntegrityFailure, ValueError):
            return  # what is left of the tree is read again


def _read_record(file: BinaryIO) -> bytes | None:
    prefix = file.read(4 + DIGEST_BYTES)
    if not prefix:
        return None
    length = int.from_bytes(prefix[:4], "little")
    data = file.read(length) if length <= _MAX_RECORD_BYTES else b""
    if len(data) != length or prefix[4:] != digest(data):
        msg = "cache of the previous point: is damaged"
        raise IntegrityFailure(msg)
    return data


def _frame(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + digest(data) + data


class NextPrevious:
    """Gathers the segments of the point that is being made, and replaces those of the one before."""

    def __init__(self, cache: Cache, workload: str) -> None:
        self.records: list[SegmentRecord] = []
        self._cache = cache
        self._path = previous_path(cache, workload)
        self._temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.{id(self)}")
        descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "wb", buffering=1 << 20)
        self._file.write(_frame(msgspec.msgpack.encode(_Header(_VERSION, workload))))

    def add(self, segment: OldSegment) -> None:
        """One more segment."""
        self.records.append(segment.record)
        packs = sorted(segment.packs) if segment.packs is not None else None
        self._file.write(
            _frame(msgspec.msgpack.encode(_Stored(segment.record, packs, segment.data, segment.lists)))
        )

    def publish(self, size_bytes: int) -> None:
        """Make this the previous point of the workload, with so many bytes of content."""
        self._file.close()
        self._temporary.replace(self._path)
        items = sum(record.entries for record in self.records)
        self._cache.write(_totals_path(self._path), [f"{items} {size_bytes}\n".encode()])

    def discard(self) -> None:
        """Remove the temporary file. Harmless after ``publish``."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)


def chunk_ids(ids: bytes) -> list[bytes]:
    """Concatenated ids, apart."""
    if len(ids) == CHUNK_ID_BYTES:
        return [ids]
    return [ids[i : i + CHUNK_ID_BYTES] for i in range(0, len(ids), CHUNK_ID_BYTES)]
