"""Fills packs with sealed frames, from many threads, in two reused buffers.

A thread compresses a frame, reserves room for it in the open pack and seals it right into that room.
Whoever completes the last frame of a full pack signs and stores it while others fill the next one.
"""

from __future__ import annotations

import itertools
import mmap
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from blake3 import blake3

from donjon.codec.compress import compress
from donjon.codec.pad import padme
from donjon.codec.seal import TAG_BYTES, Sealer
from donjon.codec.sign import SigningKey
from donjon.core.units import MIB
from donjon.format.pack import (
    TRAILER_BYTES,
    Frame,
    PackKind,
    Trailer,
    end_bytes,
    footer_key,
    seal_footer,
    sign_trailer,
)
from donjon.format.table import PackRow

#: A pack never gets larger; it is closed earlier, where padding it costs next to nothing. Two buffers of
#: this size are most of a backup's memory, and 64 MiB would take it over the 250 MB that it may use.
PACK_BYTES = {PackKind.DATA: 56 * MIB, PackKind.METADATA: 8 * MIB}
_BUFFERS = {PackKind.DATA: 2, PackKind.METADATA: 1}
_EARLIEST_CLOSE = 0.8
_CHEAP_PADDING = 1 / 512


@dataclass(frozen=True, slots=True)
class SessionIdentity:
    """What goes into every pack of a session."""

    vault_id: bytes
    signing_key: SigningKey
    writer: bytes
    number: int
    index_key: bytes = field(repr=False)
    data_key: bytes = field(repr=False)


@dataclass(slots=True)
class _OpenPack:
    buffer: mmap.mmap
    ordinal: int
    used: int = 0
    chunk_count: int = 0
    pending: int = 0
    closed: bool = False
    frames: list[Frame] = field(default_factory=list)

    def size_with(self, sealed_bytes: int, chunks: int) -> int:
        """Size of the whole pack before padding, were a frame of this size added."""
        frames, chunks = len(self.frames) + bool(sealed_bytes), self.chunk_count + chunks
        return self.used + sealed_bytes + end_bytes(frames, chunks)


#: Stores the bytes of a pack under the name in its row; called without any lock held.
StorePack = Callable[[PackRow, list[Frame], memoryview], None]


class Packer:
    """Packs of one kind. ``add`` may be called from many threads."""

    def __init__(
        self,
        kind: PackKind,
        identity: SessionIdentity,
        ordinals: Iterator[int],
        numbers: Iterator[int],
        lock_until: int,
        store_pack: StorePack,
    ) -> None:
        """``ordinals`` number the packs and ``numbers`` the frames of the whole session."""
        self._kind = kind
        self._identity = identity
        self._ordinals = ordinals
        self._numbers = numbers
        self._lock_until = lock_until
        self._store_pack = store_pack
        self._sealer = Sealer(identity.data_key)
        self._lock = threading.Lock()
        self._open: _OpenPack | None = None
        self._limit = PACK_BYTES[kind]
        self._buffers: queue.SimpleQueue[mmap.mmap | None] = queue.SimpleQueue()
        for _ in range(_BUFFERS[kind]):
            self._buffers.put(None)

    def add(self, raw: memoryview, chunks: list[tuple[bytes, int]]) -> int:
        """Compress, seal and pack one frame; the ordinal of its pack.

        Raises what storing a full pack raises.
        """
        coding, coded = compress(raw)
        sealed_bytes = len(coded) + TAG_BYTES
        number = next(self._numbers)
        frame = Frame(number, sealed_bytes, len(raw), coding, chunks)
        pack, at = self._reserve(frame)
        with memoryview(pack.buffer) as view:
            self._sealer.seal_into(number, coded, view[at : at + sealed_bytes])
        with self._lock:
            pack.pending -= 1
            complete = pack.closed and not pack.pending
        if complete:
            self._finish(pack)
        return pack.ordinal

    def flush(self) -> None:
        """Store the open pack and give back the buffers. No other thread may be adding."""
        with self._lock:
            pack, self._open = self._open, None
        if pack is not None:
            self._finish(pack)
        for _ in range(_BUFFERS[self._kind]):
            self._buffers.get()
            self._buffers.put(None)

    def _reserve(self, frame: Frame) -> tuple[_OpenPack, int]:
        while True:
            full = None
            with self._lock:
                pack = self._open
                if pack is not None:
                    if pack.size_with(frame.sealed_bytes, len(frame.chunks)) <= self._limit:
                        return pack, self._place(pack, frame)
                    pack.closed, self._open = True, None
                    full = pack if not pack.pending else None
            if full is not None:
                self._finish(full)
            # Page-aligned, so that a store may write past the page cache.
            # Blocks while both buffers are on their way to the store: that is the backpressure.
            buffer = self._buffers.get() or mmap.mmap(-1, self._limit)
            with self._lock:
                taken = self._open is None
                if taken:
                    self._open = _OpenPack(buffer, next(self._ordinals))
            if not taken:
                self._buffers.put(buffer)

    def _place(self, pack: _OpenPack, frame: Frame) -> int:
        at = pack.used
        pack.used += frame.sealed_bytes
        pack.frames.append(frame)
        pack.chunk_count += len(frame.chunks)
        pack.pending += 1
        size = pack.size_with(0, 0)
        if size >= _EARLIEST_CLOSE * self._limit and padme(size) - size <= _CHEAP_PADDING * size:
            pack.closed, self._open = True, None
        return at

    def _finish(self, pack: _OpenPack) -> None:
        who = self._identity
        key = footer_key(who.index_key, who.writer, who.number, pack.ordinal)
        footer, sealed_length = seal_footer(key, pack.frames, pack.used)
        size = pack.used + len(footer) + TRAILER_BYTES
        with memoryview(pack.buffer) as view:
            view[pack.used : size - TRAILER_BYTES] = footer
            hasher = blake3(view[: size - TRAILER_BYTES])
            trailer = sign_trailer(
                Trailer(
                    self._kind,
                    who.vault_id,
                    who.writer,
                    who.number,
                    pack.ordinal,
                    sealed_length,
                    hasher.digest(),
                    b"",
                ),
                who.signing_key,
            )
            view[size - TRAILER_BYTES : size] = trailer
            name = hasher.update(trailer).digest()
            row = PackRow(name, who.number, pack.ordinal, self._kind, size, self._lock_until)
            self._store_pack(row, pack.frames, view[:size])
        self._buffers.put(pack.buffer)


def counter() -> Iterator[int]:
    """0, 1, 2, ...; safe to share between threads."""
    return itertools.count()
