"""Reads a vault to prove that it can be restored: the metadata of every point, and the data itself."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from blake3 import blake3

from donjon.codec.compress import decompress
from donjon.codec.seal import Sealer
from donjon.core.errors import DonjonError, IntegrityFailure, ObjectNotFound, UnsupportedVersion
from donjon.core.events import Progress
from donjon.core.tuning import prepare_for_bulk_work
from donjon.format import names
from donjon.format.entries import Kind
from donjon.format.manifest import PackKey, PackSet
from donjon.format.pack import Frame
from donjon.format.segments import SegmentRecord, follows
from donjon.repository.check import BACK_UP_AGAIN, Finding, Structure, check_structure
from donjon.repository.index import Index
from donjon.repository.points import OpenPoint, open_point
from donjon.repository.reading import ChunkReader
from donjon.repository.rebuild import pack_digest, read_footer
from donjon.repository.tree import Tree, split_ids
from donjon.repository.vault import Vault
from donjon.stores.base import ObjectInfo


@dataclass(slots=True)
class Report:
    """What was checked and what is wrong. ``ok`` if nothing is. Sizes are in bytes."""

    structure: Structure
    points_read: int = 0
    packs_read: int = 0
    data_bytes: int = 0
    #: What is sound, but leaves too few keys that open it.
    warnings: list[str] = field(default_factory=list)
    recipients: int = 0
    findings: list[Finding] = field(default_factory=list)
    bad_packs: set[bytes] = field(default_factory=set)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def verify_structure(vault: Vault, progress: Progress) -> Report:
    """All that can be checked without a key."""
    structure = check_structure(vault, progress)
    return Report(structure, findings=structure.findings)


def verify_content(
    vault: Vault, reader: ChunkReader, report: Report, percent: float, progress: Progress
) -> None:
    """Read the metadata of every point, and this share of the packs in full; needs an opening key."""
    prepare_for_bulk_work()
    packs = _sample(report.structure, percent)
    progress.total(size_bytes=sum(info.size_bytes for _, info in packs))
    threads = max(min(os.cpu_count() or 2, 8), vault.store.parallel)
    with ThreadPoolExecutor(threads, "donjon-verify") as pool:
        work = [pool.submit(_read_pack, vault, reader, info, progress) for _, info in packs]
        _read_points(vault, reader, report)
        for (_, info), future in zip(packs, work, strict=True):
            try:
                report.data_bytes += future.result()
                report.packs_read += 1
            except (IntegrityFailure, ObjectNotFound, UnsupportedVersion) as error:
                report.structure.add("damaged", info.name, error.message, BACK_UP_AGAIN)
                report.bad_packs.add(pack_digest(info.name))


def remember_bad_packs(index: Index, report: Report) -> None:
    """Let the next backup of this host store again what bad or missing packs held."""
    structure = report.structure
    present = {info.name for info in structure.packs.values()}
    for row in structure.indexed.values():
        if names.pack(row.name) not in present:
            report.bad_packs.add(row.name)
    if report.bad_packs:
        index.mark_bad(report.bad_packs)


def _sample(structure: Structure, percent: float) -> list[tuple[PackKey, ObjectInfo]]:
    packs = sorted(structure.packs.items(), key=lambda pair: pair[0])
    if percent >= 100:
        return packs
    count = min(len(packs), -(-len(packs) * percent // 100))
    # Another sample each time, so that in the end every pack has been read.
    return random.SystemRandom().sample(packs, int(count))


# -- metadata --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sound:
    """A segment that was read before: the packs that it needs, and where it ends."""

    packs: frozenset[PackKey]
    last_path: bytes
    last_is_directory: bool


def _read_points(vault: Vault, reader: ChunkReader, report: Report) -> None:
    """Check that the tree of every point reads, and that every chunk in it is known to the index."""
    known: dict[bytes, _Sound] = {}
    for point in report.structure.points:
        if point.point_id in report.structure.expired:
            continue
        try:
            opened = open_point(vault, point)
        except DonjonError as error:
            report.structure.add("damaged", point.name, error.message, "Try another key or copy.")
            continue
        for what in _read_tree(Tree(opened, reader), reader, opened, known):
            finding = Finding("damaged", point.name, what, (point.point_id.hex(),), BACK_UP_AGAIN)
            if finding not in report.findings:
                report.findings.append(finding)
        report.points_read += 1


def _read_tree(
    tree: Tree, reader: ChunkReader, opened: OpenPoint, known: dict[bytes, _Sound]
) -> Iterator[str]:
    """What is wrong with the tree of one point.

    A segment in ``known`` need not be read again if this point names all packs that it needs.
    """
    problems: list[str] = []
    uses = opened.point.uses
    before: _Sound | None = _Sound(frozenset(), b"", last_is_directory=True)
    for record in tree.segments(lambda error: problems.append(error.message)):
        if before and not follows(before.last_path, before.last_is_directory, record.first_path):
            yield f"the segment that starts with {record.first_path!r} is out of order"
        before = known.get(record.chunk)
        if before and before.packs <= uses:
            continue
        before, wrong = _read_segment(tree, record, reader, uses)
        yield from wrong
        if before and not wrong:
            known[record.chunk] = before
    yield from problems
    for chunk in split_ids(opened.body.problems):
        try:
            reader.read_one(chunk, uses)
        except IntegrityFailure as error:
            yield error.message


def _read_segment(
    tree: Tree, record: SegmentRecord, reader: ChunkReader, uses: PackSet
) -> tuple[_Sound | None, list[str]]:
    """Where a segment ends, None if it does not read, and what is wrong with its files."""
    wrong = []
    packs: set[PackKey] = set()
    try:
        entries = tree.read_segment(record)
        for _, entry in entries:
            places = [reader.place(chunk, uses) for chunk in tree.chunk_ids(entry)]
            found = [place for place in places if place is not None]
            packs.update(place.key for place in found)
            if len(found) < len(places):
                wrong.append(f"the data of {entry.name!r} is in no pack of this point")
            elif sum(place.at.length for place in found) != entry.data_bytes:
                wrong.append(f"the data of {entry.name!r} has another size than its entry says")
    except (IntegrityFailure, ObjectNotFound) as error:
        return None, [*wrong, error.message]
    last_path, last = entries[-1] if entries else (record.first_path, None)
    is_directory = last is not None and last.kind == Kind.DIRECTORY
    return _Sound(frozenset(packs), last_path, is_directory), wrong


# -- data ------------------------------------------------------------------------------------------


def _read_pack(vault: Vault, reader: ChunkReader, info: ObjectInfo, progress: Progress) -> int:
    """Read one pack in full: its digest, every frame, every chunk id; the bytes of plaintext.

    Raises ``IntegrityFailure`` that names the pack.
    """
    footer = read_footer(vault, info)
    # A canary of a drill has no frames, and a session that never was.
    sealer = reader.sealer(footer.writer, footer.row.session) if footer.frames else None
    check = _PackCheck(sealer, reader, footer.frames, info.name, progress)
    vault.store.stream(info.name, info.size_bytes, check.take)
    return check.finish()


class _PackCheck:
    """Checks the frames of a pack as its bytes arrive. They may come again from the start."""

    def __init__(
        self, sealer: Sealer | None, reader: ChunkReader, frames: list[Frame], name: str, progress: Progress
    ) -> None:
        self._sealer, self._reader, self._frames = sealer, reader, frames
        self._name, self._progress = name, progress
        self._told = 0  # of the bytes, to whoever waits
        self._hasher = blake3()
        self._next = 0
        self._begun = bytearray()  # what has come of a frame

    def take(self, offset: int, piece: memoryview) -> None:
        """The next piece. Raises ``IntegrityFailure``."""
        if not offset:
            self._hasher, self._next, self._begun = blake3(), 0, bytearray()
        self._hasher.update(piece)
        end = offset + len(piece)
        if end > self._told:
            self._progress.advance(size_bytes=end - self._told, current=self._name)
            self._told = end
        while piece and self._next < len(self._frames):
            wanted = self._frames[self._next].sealed_bytes - len(self._begun)
            if self._begun or len(piece) < wanted:
                self._begun += piece[:wanted]
                if len(piece) >= wanted:
                    whole, self._begun = self._begun, bytearray()
                    self._check_next(memoryview(whole))
            else:
                self._check_next(piece[:wanted])
            piece = piece[wanted:]

    def finish(self) -> int:
        """The bytes of plaintext. Raises ``IntegrityFailure`` if the bytes are not what the name says."""
        if self._next < len(self._frames) or self._hasher.digest() != pack_digest(self._name):
            msg = f"{self._name}: its bytes do not have the digest that is its name"
            raise IntegrityFailure(msg)
        return sum(frame.raw_bytes for frame in self._frames)

    def _check_next(self, sealed: memoryview) -> None:
        frame, self._next = self._frames[self._next], self._next + 1
        assert self._sealer is not None  # noqa: S101  (there is a frame)
        plain = self._sealer.open(frame.number, sealed, self._name)
        raw = memoryview(decompress(frame.compression, plain, frame.raw_bytes, self._name))
        at = 0
        for chunk, length in frame.chunks:
            if self._reader.identify(raw[at : at + length]) != chunk:
                msg = f"{self._name}: holds other data than its footer says"
                raise IntegrityFailure(msg)
            at += length
