"""Reads chunks: finds them, fetches and opens their frames, and checks every byte against its id."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from donjon.codec.compress import decompress
from donjon.codec.digest import chunk_id
from donjon.codec.seal import Sealer
from donjon.core.errors import DonjonError, IntegrityFailure, ObjectNotFound
from donjon.core.units import MIB
from donjon.format import names
from donjon.format.manifest import PackSet
from donjon.format.table import Location
from donjon.repository.index import Found, Index
from donjon.repository.vault import Vault

Buffer = bytes | memoryview

_CACHE_BYTES = 24 * MIB
_FETCH_BYTES = 8 * MIB
#: Frames this close to each other are fetched with one request.
_GAP_BYTES = 64 << 10

_FrameKey = tuple[bytes, int]


class ChunkReader:
    """Gives plaintext for chunk ids. Safe to share between threads."""

    def __init__(self, vault: Vault, index: Index, complete_index: Callable[[], bool] | None = None) -> None:
        """``complete_index`` is called once, when a chunk is nowhere in the index, to read the footers
        of packs that the index does not know; it tells whether it found any."""
        self._vault = vault
        self._index = index
        self._complete_index = complete_index
        self._id_key = vault.secret.chunk_id_key
        self._sealers: dict[tuple[bytes, int], Sealer] = {}
        self._frames: OrderedDict[_FrameKey, Buffer] = OrderedDict()
        self._frame_bytes = 0
        self._lock = threading.Lock()

    def fetch(self, ids: Sequence[bytes], uses: PackSet) -> Fetched:
        """Fetch the frames of all these chunks, neighbours together, and open them.

        ``uses`` are the packs that the point names. What cannot be had shows when it is asked for.
        """
        places = {chunk: self._likely(chunk, uses) for chunk in ids}
        frames = self._fetch([found[0] for found in places.values() if found])
        return Fetched(self, uses, places, frames)

    def read(self, ids: Sequence[bytes], uses: PackSet) -> Iterator[Buffer]:
        """The plaintext of each chunk, in order.

        Raises ``IntegrityFailure`` if a chunk is missing or damaged everywhere.
        """
        fetched = self.fetch(ids, uses)
        return (fetched.chunk(chunk) for chunk in ids)

    def identify(self, data: Buffer) -> bytes:
        """The id that a chunk with this plaintext has."""
        return chunk_id(self._id_key, data)

    def read_one(self, chunk: bytes, uses: PackSet) -> Buffer:
        """The plaintext of one chunk."""
        return next(self.read([chunk], uses))

    def describe(self, ids: Sequence[bytes], uses: PackSet) -> Fetched:
        """Like ``fetch``, but fetches nothing yet: for lengths."""
        return Fetched(self, uses, {chunk: self._likely(chunk, uses) for chunk in ids}, {})

    def place(self, chunk: bytes, uses: PackSet) -> Found | None:
        """A place of this chunk, as the index has it, in a pack that the point names; or None."""
        places = self._likely(chunk, uses)
        return places[0] if places and places[0].key in uses else None

    def packs(self, uses: PackSet) -> list[bytes]:
        """The packs that a point names, as far as the index has them, in the order of their making."""
        known = {(writer, row.session, row.ordinal): row.name for writer, row in self._index.packs()}
        return [known[key] for key in sorted(uses) if key in known]

    def locate(self, chunk: bytes, uses: PackSet) -> list[Found]:
        """All places of a chunk, those in packs that the point names first.

        A stolen writer key can add wrong places later; it cannot change which packs a point names.
        """
        found = list(self._index.find_all(chunk))
        if not found and self._complete_index is not None:
            with self._lock:
                complete, self._complete_index = self._complete_index, None
            if complete is not None and complete():
                found = list(self._index.find_all(chunk))
        if len(found) > 1:
            found.sort(key=lambda place: (place.key not in uses, place.at.pack.name in self._index.bad_packs))
        return found

    def _likely(self, chunk: bytes, uses: PackSet) -> list[Found]:
        """Places of a chunk; not the others, if there is a good one where the last chunk was found."""
        near = self._index.find_near(chunk)
        if near is not None and near.key in uses and near.at.pack.name not in self._index.bad_packs:
            return [near]
        return self.locate(chunk, uses)

    def checked(
        self,
        chunk: bytes,
        likely: Sequence[Found],
        uses: PackSet,
        frames: dict[_FrameKey, Buffer],
    ) -> Buffer:
        """The plaintext of a chunk from the first of its places where it is whole, the likely ones first."""
        failure: DonjonError | None = None
        for place in self._in_turn(chunk, likely, uses):
            at = place.at
            try:
                frame = frames.get((at.pack.name, at.frame_offset))
                if frame is None:
                    frame = self._open(place, self._get(at, at.frame_offset, at.frame_sealed_bytes))
                data = memoryview(frame)[at.offset : at.offset + at.length]
                if chunk_id(self._id_key, data) != chunk:
                    msg = f"{names.pack(at.pack.name)}: holds other data than its index says"
                    raise IntegrityFailure(msg)
            except (IntegrityFailure, ObjectNotFound) as error:
                failure = error
                continue
            return data
        if isinstance(failure, IntegrityFailure):
            raise failure
        raise _missing(chunk) from failure

    def _in_turn(self, chunk: bytes, likely: Sequence[Found], uses: PackSet) -> Iterator[Found]:
        yield from likely
        yield from (place for place in self.locate(chunk, uses) if place not in likely)

    def _fetch(self, places: list[Found]) -> dict[_FrameKey, Buffer]:
        """The plaintext of all frames, neighbours fetched together. Damaged ones are left out."""
        wanted: dict[_FrameKey, Found] = {(p.at.pack.name, p.at.frame_offset): p for p in places}
        frames: dict[_FrameKey, Buffer] = {}
        with self._lock:
            for key in wanted:
                if key in self._frames:
                    self._frames.move_to_end(key)
                    frames[key] = self._frames[key]
        missing = sorted((p for key, p in wanted.items() if key not in frames), key=_place)
        for run in _runs(missing):
            start = run[0].at.frame_offset
            end = run[-1].at.frame_offset + run[-1].at.frame_sealed_bytes
            try:
                data = memoryview(self._get(run[0].at, start, end - start))
            except (IntegrityFailure, ObjectNotFound):
                continue
            for place in run:
                at = place.at
                offset = at.frame_offset - start
                try:
                    frame = self._open(place, data[offset : offset + at.frame_sealed_bytes])
                except IntegrityFailure:
                    continue
                frames[(at.pack.name, at.frame_offset)] = frame
        if missing:
            self._keep((missing[-1].at.pack.name, missing[-1].at.frame_offset), frames)
        return frames

    def _keep(self, key: _FrameKey, frames: dict[_FrameKey, Buffer]) -> None:
        """Cache the last frame only: it is the one that the next reader wants too."""
        if key not in frames:
            return
        with self._lock:
            if key not in self._frames:
                self._frames[key] = frames[key]
                self._frame_bytes += len(frames[key])
            while self._frame_bytes > _CACHE_BYTES:
                _, dropped = self._frames.popitem(last=False)
                self._frame_bytes -= len(dropped)

    def _get(self, at: Location, offset: int, length: int) -> bytes:
        name = names.pack(at.pack.name)
        data = self._vault.store.get(name, offset=offset, length=length)
        if len(data) != length:
            msg = f"{name}: ends too early"
            raise IntegrityFailure(msg, hint="The object was cut short; run `donjon verify`.")
        return data

    def _open(self, place: Found, sealed: Buffer) -> Buffer:
        at = place.at
        what = names.pack(at.pack.name)
        plain = self.sealer(place.writer, at.pack.session).open(at.frame_number, sealed, what)
        return decompress(at.compression, plain, at.frame_raw_bytes, what)

    def sealer(self, writer: bytes, session: int) -> Sealer:
        """What opens the frames of a session."""
        key = (writer, session)
        sealer = self._sealers.get(key)
        if sealer is None:
            sealer = self._sealers[key] = Sealer(self._vault.session_key(writer, session))
        return sealer


class Fetched:
    """Chunks whose frames are in memory."""

    def __init__(
        self,
        reader: ChunkReader,
        uses: PackSet,
        places: dict[bytes, list[Found]],
        frames: dict[_FrameKey, Buffer],
    ) -> None:
        self._reader = reader
        self._uses = uses
        self._places = places
        self._frames = frames

    def chunk(self, chunk: bytes) -> Buffer:
        """The plaintext. Raises ``IntegrityFailure`` if it is missing or damaged everywhere."""
        return self._reader.checked(chunk, self._places[chunk], self._uses, self._frames)

    def length(self, chunk: bytes) -> int:
        """Bytes of plaintext, from the index. Raises ``IntegrityFailure`` if the chunk is unknown."""
        if not (places := self._places[chunk]):
            raise _missing(chunk)
        return places[0].at.length


def _place(found: Found) -> tuple[bytes, int]:
    return found.at.pack.name, found.at.frame_offset


def _runs(places: list[Found]) -> Iterator[list[Found]]:
    """Neighbouring frames of a pack, together up to ``_FETCH_BYTES``."""
    run: list[Found] = []
    for place in places:
        if run:
            last = run[-1].at
            gap = place.at.frame_offset - last.frame_offset - last.frame_sealed_bytes
            size = place.at.frame_offset + place.at.frame_sealed_bytes - run[0].at.frame_offset
            if last.pack.name != place.at.pack.name or not 0 <= gap <= _GAP_BYTES or size > _FETCH_BYTES:
                yield run
                run = []
        run.append(place)
    if run:
        yield run


def _missing(chunk: bytes) -> IntegrityFailure:
    return IntegrityFailure(
        f"chunk {chunk.hex()[:16]}: is in no pack of this vault",
        hint="A pack is gone or unreadable; run `donjon verify` to learn what is affected.",
    )
