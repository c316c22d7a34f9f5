"""Golden vaults, and what each of the two readers says is in them, as text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from donjon.core.events import Silent
from donjon.format.entries import Entry
from donjon.keys.recovery import RecoveryKit, read_kit
from donjon.recovery.request import Request
from donjon.recovery.restore import restore
from donjon.repository.cache import Cache
from donjon.repository.index import Index
from donjon.repository.points import OpenPoint, list_points, open_point
from donjon.repository.reading import ChunkReader
from donjon.repository.rebuild import complete_index
from donjon.repository.tree import Tree
from donjon.repository.vault import Vault, open_vault
from donjon.stores.memory import MemorySnapshot, MemoryStore
from donjon.testing.clock import ManualClock
from tests import second_reader
from tests.golden.made_up import MemoryTarget, from_json

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Golden:
    """A vault as text. ``kits`` are the texts of its kits, the one with the root key first."""

    name: str
    kits: tuple[str, ...]
    passphrase: str
    vault_id: bytes
    snapshot: MemorySnapshot

    @property
    def objects(self) -> dict[str, bytes]:
        return {name: item.data for name, item in self.snapshot.items()}

    def store(self) -> MemoryStore:
        """A store with this vault, long after it was made."""
        return MemoryStore.from_snapshot(self.snapshot, ManualClock(1_801_000_000))

    def kit(self, number: int = 0) -> RecoveryKit:
        return read_kit(self.kits[number])


def load(name: str) -> Golden:
    """The golden vault of this name."""
    text = json.loads((FOLDER / f"{name}.json").read_text())
    return Golden(
        name,
        tuple("\n".join(lines) + "\n" for lines in text["kits"]),
        text.get("passphrase", ""),
        bytes.fromhex(text["vault_id"]),
        from_json(text["objects"]),
    )


def expected(name: str) -> list[str]:
    """What is in the golden vault: the first line of every point and a line for each item."""
    return (FOLDER / f"{name}.txt").read_text(encoding="ascii").splitlines()


# --- the second reader ----------------------------------------------------------------------------


def second_listing(vault: second_reader.Vault, *, by_footers: bool) -> list[str]:
    """All points as the second reader sees them."""
    lines = []
    for point in vault.points():
        places = vault.places_by_footers if by_footers else vault.places_by_index
        reader = second_reader.Reader(vault, point, places(point.writer))
        lines.append(f"point {point.point_id.hex()} {reader.body.workload}")
        lines += [f"problem {path!r} {reason}" for path, reason in reader.problems()]
        lines += second_reader.listing(reader)
        assert reader.used <= point.uses, "a point needs a pack that it does not name"
    return lines


# --- Donjon ---------------------------------------------------------------------------------------


def reader_of(vault: Vault, folder: Path, *, by_footers: bool = False) -> ChunkReader:
    """What reads chunks; with ``by_footers`` as if all index objects were lost."""
    index = Index(Cache(folder))
    if not by_footers:
        index.sync_all(vault)
    return ChunkReader(vault, index, lambda: complete_index(vault, index, Silent()))


def listing(vault: Vault, reader: ChunkReader) -> list[str]:
    """All points as Donjon restores them."""
    lines = []
    points = sorted(list_points(vault), key=lambda point: point.name)
    for point in points:
        opened = open_point(vault, point)
        lines.append(f"point {point.point_id.hex()} {opened.body.workload}")
        lines += [f"problem {p.path!r} {p.reason}" for p in Tree(opened, reader).problems()]
        lines += restored_lines(opened, reader)
    return lines


def restored_lines(opened: OpenPoint, reader: ChunkReader, *, keep_going: bool = False) -> list[str]:
    """A line for every item that a restore brings back."""
    target = MemoryTarget()
    restore(Request(opened, keep_going=keep_going), reader, target, Silent())
    items = sorted(target.restored.items(), key=lambda item: item[0].split(b"/"))
    return [second_reader.line(as_second(path, entry), sha256) for path, (entry, sha256) in items]


def as_second(path: bytes, entry: Entry) -> second_reader.Entry:
    """An entry of Donjon in the words of the second reader."""
    return second_reader.Entry(
        path=path,
        depth=entry.depth,
        name=entry.name,
        kind=entry.kind,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        user=entry.user,
        group=entry.group,
        mtime=(entry.mtime_s, entry.mtime_ns),
        ctime=(entry.ctime_s, entry.ctime_ns),
        device=entry.device,
        inode=entry.inode,
        links=entry.links,
        size=entry.size,
        chunks=tuple(entry.chunks[i : i + 32] for i in range(0, len(entry.chunks), 32)),
        indirect=entry.indirect,
        extents=entry.extents,
        target=entry.target,
        rdev=entry.rdev,
        attributes=entry.xattrs,
    )


def open_golden(golden: Golden, kit: int = 0) -> Vault:
    """The vault, opened with one of its kits."""
    vault = open_vault(golden.store())
    vault.use_opener(golden.kit(kit).opener())
    return vault
