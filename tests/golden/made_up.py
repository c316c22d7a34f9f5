"""Sources and targets in memory, so that vaults can be made and restored without a file system."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from donjon.format.entries import Entry, Kind
from donjon.stores.memory import MemoryObject, MemorySnapshot
from donjon.targets.base import NewFile, Outcome


@dataclass(frozen=True)
class MadeUpItem:
    """An item that is what its entry says; ``data`` is the content of a file without its holes."""

    entry: Entry
    data: bytes = b""

    @property
    def depth(self) -> int:
        return self.entry.depth

    @property
    def name(self) -> bytes:
        return self.entry.name

    @property
    def path(self) -> bytes:
        return self.entry.name

    @property
    def size(self) -> int:
        return self.entry.size

    @property
    def is_file(self) -> bool:
        return self.entry.kind == Kind.FILE

    @property
    def link_group(self) -> tuple[int, int] | None:
        return (self.entry.device, self.entry.inode) if self.is_file and self.entry.links > 1 else None

    def same_as(self, previous: Entry) -> bool:
        return (self.entry.ctime_s, self.entry.size, self.entry.kind) == (
            previous.ctime_s,
            previous.size,
            previous.kind,
        )

    def describe(self) -> Entry:
        return self.entry

    def open(self) -> MadeUpContent:
        return MadeUpContent(self.data, self.entry.extents)

    def refresh(self) -> None:
        """Nothing changes here."""


class MadeUpContent:
    """The open data of a made-up file."""

    def __init__(self, data: bytes, extents: tuple[tuple[int, int], ...] | None) -> None:
        self.extents = extents
        self._rest = memoryview(data)

    def readinto(self, buffer: memoryview) -> int:
        piece = self._rest[: len(buffer)]
        buffer[: len(piece)] = piece
        self._rest = self._rest[len(piece) :]
        return len(piece)

    def close(self) -> bool:
        return True


@dataclass
class MadeUpSource:
    """Items in order, and what could not be read."""

    made_up: Sequence[MadeUpItem]
    unreadable: Sequence[tuple[bytes, str]] = ()

    def items(self) -> Iterator[MadeUpItem]:
        return iter(self.made_up)

    def problems(self) -> list[tuple[bytes, str]]:
        return list(self.unreadable)


@dataclass
class MemoryTarget:
    """Keeps what is restored: every path with its entry and, for files, the SHA-256 of its data.

    Data of a file is what was written, in the order of offsets; holes are left out.
    """

    restored: dict[bytes, tuple[Entry, str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def make_directory(self, path: bytes) -> None:
        """Directories count once they are finished."""

    def finish_directory(self, path: bytes, entry: Entry) -> None:
        self.keep(path, entry)

    def write_files(self, files: Sequence[NewFile]) -> list[Outcome]:
        for new in files:
            file = self.create_file(new.path, new.entry)
            for offset, data in new.pieces:
                file.write_at(offset, data)
            file.finish()
        return [True] * len(files)

    def create_file(self, path: bytes, entry: Entry) -> MemoryFile:
        return MemoryFile(self, path, entry)

    def make_link(self, path: bytes, existing: bytes) -> bool:
        self.keep(path, *self.restored[existing])
        return True

    def make_special(self, path: bytes, entry: Entry) -> bool:
        self.keep(path, entry)
        return True

    def open_existing(self, path: bytes) -> None:
        """Nothing exists before."""

    def refresh_file(self, path: bytes, entry: Entry) -> None:
        raise AssertionError(path)

    def keep(self, path: bytes, entry: Entry, sha256: str = "") -> None:
        with self._lock:
            assert path not in self.restored
            self.restored[path] = (entry, sha256)


class MemoryFile:
    """One file that is being restored."""

    def __init__(self, target: MemoryTarget, path: bytes, entry: Entry) -> None:
        self._target, self._path, self._entry = target, path, entry
        self._pieces: dict[int, bytes] = {}

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._pieces[offset] = bytes(data)

    def finish(self) -> None:
        hasher = hashlib.sha256()
        for offset in sorted(self._pieces):
            hasher.update(self._pieces[offset])
        self._target.keep(self._path, self._entry, hasher.hexdigest())

    def abort(self) -> None:
        """Nothing was kept."""


#: Of an object: base64 of its bytes, stored at, locked until.
Row = tuple[str, int, int | None]


def to_json(snapshot: MemorySnapshot) -> dict[str, Row]:
    """Objects as text, by name."""
    return {
        name: (base64.b64encode(item.data).decode(), item.stored_at, item.retain_until)
        for name, item in sorted(snapshot.items())
    }


def from_json(objects: dict[str, Row]) -> MemorySnapshot:
    """The objects of ``to_json``."""
    return {
        name: MemoryObject(base64.b64decode(data), stored_at, retain_until)
        for name, (data, stored_at, retain_until) in objects.items()
    }
