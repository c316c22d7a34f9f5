"""The metadata of the previous point of a workload, in the client's cache.

A writer cannot open what it backed up, so it keeps this copy to tell what has not changed. For each
segment the file also has the packs that the segment and its files need. Without the file every source
is read again, and deduplicated as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from donjon.codec.digest import digest
from donjon.core.errors import IntegrityFailure
from donjon.format.entries import CHUNK_ID_BYTES, Entry
from donjon.format.segments import SegmentRecord, decode_segment
from donjon.repository.cache import Cache
from donjon.repository.writing import PackNumber

_VERSION = 1
_MAX_RECORD_BYTES = 1 << 30


class _Header(msgspec.Struct, array_like=True):
    version: int
    workload: str


class _Stored(msgspec.Struct, array_like=True):
    record: SegmentRecord
    packs: list[PackNumber]
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


def read_previous(path: Path, workload: str) -> Iterator[OldSegment]:
    """The segments in order; nothing if there is no (readable) file."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        try:
            header = msgspec.msgpack.decode(_read_record(file) or b"", type=_Header)
            if (header.version, header.workload) != (_VERSION, workload):
                return
            data = _read_record(file)
            while data is not None:
                following = _read_record(file)
                stored = msgspec.msgpack.decode(data, type=_Stored)
                yield OldSegment(
                    stored.record, frozenset(stored.packs), stored.data, following is None, stored.lists
                )
                data = following
        except (msgspec.MsgspecError, IntegrityFailure, ValueError):
            return  # what is left of the tree is read again


def _read_record(file: BinaryIO) -> bytes | None:
    prefix = file.read(4)
    if not prefix:
        return None
    length = int.from_bytes(prefix, "little")
    data = file.read(length) if length <= _MAX_RECORD_BYTES else b""
    if len(prefix) != 4 or len(data) != length:
        msg = "cache of the previous point: is damaged"
        raise IntegrityFailure(msg)
    return data


def _frame(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


class NextPrevious:
    """Gathers the segments of the point that is being made, in a temporary file."""

    def __init__(self, cache: Cache, workload: str) -> None:
        self._cache = cache
        self._workload = workload
        self._path = previous_path(cache, workload)
        self._temporary = self._path.with_name(f"{self._path.name}.{id(self)}.new")
        self._file: BinaryIO = self._temporary.open("w+b", buffering=1 << 20)
        self._temporary.chmod(0o600)

    def add(self, segment: OldSegment) -> None:
        """One more segment. Its packs may still be unknown."""
        packs = sorted(segment.packs) if segment.packs is not None else []
        flag = b"\1" if segment.packs is not None else b"\0"
        data = msgspec.msgpack.encode(_Stored(segment.record, packs, segment.data, segment.lists))
        self._file.write(_frame(flag + data))

    def records(self) -> Iterator[SegmentRecord]:
        """The records of all segments, in order."""
        return (stored.record for _, stored in self._read())

    def publish(self, pack_of: Callable[[bytes], PackNumber | None]) -> None:
        """Make this the previous point of the workload, once every chunk has its pack."""
        self._cache.write(self._path, self._pieces(pack_of))
        self.discard()

    def discard(self) -> None:
        """Remove the temporary file. Calling it twice is harmless."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _pieces(self, pack_of: Callable[[bytes], PackNumber | None]) -> Iterator[bytes]:
        yield _frame(msgspec.msgpack.encode(_Header(_VERSION, self._workload)))
        for known, stored in self._read():
            if not known:
                stored.packs = sorted(_packs(stored, pack_of))
            yield _frame(msgspec.msgpack.encode(stored))

    def _read(self) -> Iterator[tuple[bool, _Stored]]:
        self._file.flush()
        self._file.seek(0)
        while (data := _read_record(self._file)) is not None:
            yield data[0] == 1, msgspec.msgpack.decode(memoryview(data)[1:], type=_Stored)


def _packs(stored: _Stored, pack_of: Callable[[bytes], PackNumber | None]) -> set[PackNumber]:
    """The packs that a segment and its files need."""
    packs = {pack_of(stored.record.chunk)}
    for entry in decode_segment(stored.data, "new segment"):
        for chunk in chunk_ids(entry.chunks):
            packs.add(pack_of(chunk))
            if entry.indirect:
                packs.update(pack_of(data) for data in chunk_ids(stored.lists.get(chunk, b"")))
    if None in packs:
        # Cannot be relied on: make it a pack that no index knows, so that the files are looked at again.
        packs = {(0, 0)}
    return {pack for pack in packs if pack is not None}


def chunk_ids(ids: bytes) -> list[bytes]:
    """Concatenated ids, apart."""
    if len(ids) == CHUNK_ID_BYTES:
        return [ids]
    return [ids[i : i + CHUNK_ID_BYTES] for i in range(0, len(ids), CHUNK_ID_BYTES)]
