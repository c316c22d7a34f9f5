"""From the content of files to stored chunks: batches of small files, sections of large ones.

A batch or a section is one unit of work for a thread, in a buffer that is used again and again. Chunks
that the vault has already are squeezed out of the buffer, so that what is new lies end to end and is
compressed and sealed as it lies.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable

import msgspec

from donjon.codec.chunk import MAX_CHUNK_BYTES, Chunker
from donjon.codec.digest import chunk_id
from donjon.core.tuning import small_file_turns
from donjon.core.units import MIB
from donjon.format.entries import CHUNK_ID_BYTES, Entry
from donjon.format.pack import FRAME_TARGET_BYTES, PackKind
from donjon.repository.writing import WriteSession
from donjon.sources.base import Item

BATCH_BYTES = 3 * MIB
BATCH_FILES = 512
#: Files above this size are read in sections, so that several threads share one file.
SMALL_FILE_BYTES = 1 * MIB
BUFFER_BYTES = BATCH_BYTES + MAX_CHUNK_BYTES
#: An entry with more chunks refers to lists of ids instead (about 20 GiB).
MAX_DIRECT_CHUNKS = 16_384
_IDS_PER_LIST = 8_192
_ATTEMPTS = 3


class Grown(Exception):
    """A small file turned out not to be small."""


class Slot:
    """The place of one file in the stream of entries, filled when its content is stored."""

    __slots__ = ("bytes_read", "entry", "grown", "item", "lists", "previous", "problem")

    def __init__(self, item: Item, previous: Entry | None) -> None:
        self.item = item
        self.previous = previous
        self.entry: Entry | None = None
        self.problem: str | None = None
        self.lists: dict[bytes, bytes] | None = None
        self.bytes_read = 0
        self.grown = False


class Buffers:
    """A few buffers that are handed round. ``take`` blocks until one is free."""

    def __init__(self, count: int) -> None:
        self._free: queue.SimpleQueue[bytearray | None] = queue.SimpleQueue()
        for _ in range(count):
            self._free.put(None)

    def take(self) -> bytearray:
        """A buffer of ``BUFFER_BYTES``, with anything in it."""
        return self._free.get() or bytearray(BUFFER_BYTES)

    def give_back(self, buffer: bytearray) -> None:
        """Return a buffer."""
        self._free.put(buffer)


class ChunkStorer:
    """Stores runs of chunks from a buffer. Safe to share between threads."""

    def __init__(self, session: WriteSession) -> None:
        self._session = session
        self._id_key = session.chunk_id_key
        self._local = threading.local()
        self.turns = small_file_turns()

    def chunker(self) -> Chunker:
        """The chunker of this thread."""
        chunker = self._local.__dict__.get("chunker")
        if chunker is None:
            chunker = self._local.chunker = self._session.chunker()
        return chunker

    def store(self, view: memoryview, lengths: Iterable[int]) -> list[bytes]:
        """Store the chunks at the start of ``view``, whose bytes are moved about; their ids."""
        session, id_key = self._session, self._id_key
        ids: list[bytes] = []
        run: list[tuple[bytes, int]] = []
        read = write = start = 0
        for length in lengths:
            end = read + length
            chunk = view[read:end]
            identity = chunk_id(id_key, chunk)
            ids.append(identity)
            if session.claim(identity):
                if write != read:
                    view[write : write + length] = chunk
                write += length
                run.append((identity, length))
                if write - start >= FRAME_TARGET_BYTES:
                    session.store(PackKind.DATA, view[start:write], run)
                    run, start = [], write
            read = end
        if run:
            session.store(PackKind.DATA, view[start:write], run)
        return ids

    def store_list(self, ids: bytes) -> bytes:
        """Store a list of chunk ids as a chunk of metadata; its id."""
        identity = chunk_id(self._id_key, ids)
        if self._session.claim(identity):
            self._session.store(PackKind.METADATA, memoryview(ids), [(identity, len(ids))])
        return identity


def store_batch(storer: ChunkStorer, slots: list[Slot], buffer: bytearray) -> None:
    """Read and store small files, and fill their slots."""
    chunker = storer.chunker()
    with memoryview(buffer) as view:
        lengths: list[int] = []
        counts: list[tuple[Slot, int]] = []
        at = 0
        with storer.turns:
            for slot in slots:
                size = read_small(slot, view[at:])
                if size < 0:
                    continue
                cuts = chunker.cut(view[at : at + size], final=True)
                lengths += cuts
                counts.append((slot, len(cuts)))
                at += size
        ids = storer.store(view, lengths)
    taken = 0
    for slot, count in counts:
        if count and slot.entry is not None:
            slot.entry = msgspec.structs.replace(slot.entry, chunks=b"".join(ids[taken : taken + count]))
        taken += count


def read_small(slot: Slot, view: memoryview) -> int:
    """Read a whole file into ``view`` and describe it; its size, or -1 if the slot needs no chunks."""
    item = slot.item
    try:
        for attempt in range(_ATTEMPTS):
            if attempt:
                item.refresh()
            content = item.open()
            size = 0
            stable = False
            try:
                entry = item.describe()
                while count := content.readinto(view[size:]):
                    size += count
                    if size > 2 * SMALL_FILE_BYTES or size >= len(view):
                        slot.grown = True
                        return -1
            finally:
                stable = content.close()
            slot.bytes_read += size
            if stable:
                break
        else:
            slot.problem = CHANGED
        slot.entry = with_extents(entry, content.extents, size)
    except OSError as error:
        slot.problem = reason(error)
        return -1
    return size


CHANGED = "changed while it was read; stored as it was read last"


def with_extents(entry: Entry, extents: tuple[tuple[int, int], ...] | None, data_bytes: int) -> Entry:
    """The entry of a file of which this much was read, which may be less or more than its size was."""
    if extents is None:
        return entry if entry.size == data_bytes else msgspec.structs.replace(entry, size=data_bytes)
    if sum(length for _, length in extents) == data_bytes:
        return msgspec.structs.replace(entry, extents=extents)
    clipped = []
    for offset, length in extents:
        piece = min(length, data_bytes)
        if piece:
            clipped.append((offset, piece))
        data_bytes -= piece
    return msgspec.structs.replace(entry, extents=tuple(clipped))


def reason(error: OSError) -> str:
    """What an operating system error says, for the list of problems."""
    if isinstance(error, FileNotFoundError):
        return "vanished before it was read"
    return error.strerror or str(error)


def split_lists(storer: ChunkStorer, ids: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Put a long list of chunk ids into chunks of its own: their ids, and what is in each."""
    step = _IDS_PER_LIST * CHUNK_ID_BYTES
    lists = {}
    top = []
    for start in range(0, len(ids), step):
        piece = ids[start : start + step]
        identity = storer.store_list(piece)
        lists[identity] = piece
        top.append(identity)
    return b"".join(top), lists
