"""Where chunks are: index tables of the vault, kept as mapped files in the local cache.

The index is derived. Tables come from signed index objects; what is missing there is read from the
footers of the packs (``rebuild.py``). When many small tables have gathered, they are merged.
"""

from __future__ import annotations

import itertools
import mmap
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from donjon.codec.digest import DIGEST_BYTES, digest
from donjon.core.errors import IntegrityFailure, ObjectNotFound
from donjon.format import names
from donjon.format.manifest import PackKey
from donjon.format.objects import ObjectKind, parse_object
from donjon.format.table import IndexObject, Location, PackRow, Table, merge_tables, open_table
from donjon.repository.cache import Cache, with_digest
from donjon.repository.fetch import fetch_object
from donjon.repository.vault import Vault
from donjon.stores.first_versions import first_of_each

_MERGE_AT = 8


@dataclass(frozen=True, slots=True)
class Found:
    """A place of a chunk, and whose pack it is in."""

    writer: bytes
    at: Location

    @property
    def key(self) -> PackKey:
        """The pack."""
        return self.writer, self.at.pack.session, self.at.pack.ordinal


def _put_end(row: PackRow) -> int:
    """Until when the pack was locked when it was put."""
    return row.lock_until


def read_index_object(vault: Vault, name: str) -> IndexObject:
    """An index object, its signature checked. Raises ``IntegrityFailure``, ``ObjectNotFound``."""
    return parse_index_object(vault, name, fetch_object(vault.store, name, ObjectKind.INDEX))


def parse_index_object(vault: Vault, name: str, data: bytes) -> IndexObject:
    """An index object from its bytes; its box stays shut. Raises ``IntegrityFailure``."""
    index = parse_object(data, ObjectKind.INDEX, IndexObject, name)
    vault.verify_by_writer(data, index.writer, name)
    if name != names.index(index.writer, index.session, index.part):
        msg = f"{name}: holds another part of the index"
        raise IntegrityFailure(msg)
    return index


class Index:
    """All tables known of one vault. Adding tables and looking up may happen at the same time."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._tables: list[tuple[bytes, Table]] = []
        self._last_hit: tuple[bytes, Table] | None = None
        self._lock = threading.Lock()
        self._loaded: set[str] = set()
        self.bad_packs: frozenset[bytes] = self._read_bad_packs()

    # -- looking up ------------------------------------------------------------------------------

    def find(
        self, chunk: bytes, writer: bytes, lock_end: Callable[[PackRow], int] = _put_end
    ) -> PackRow | None:
        """A pack of this writer that holds the chunk; of several the one with the latest lock end."""
        best: PackRow | None = None
        for owner, table in self._tables:
            if owner != writer:
                continue
            for row in table.find_packs(chunk):
                if row.name not in self.bad_packs and (best is None or lock_end(row) > lock_end(best)):
                    best = row
        return best

    def find_near(self, chunk: bytes) -> Found | None:
        """One place, if there is any, looked for first in the table that had the one before."""
        last = self._last_hit
        if last is not None and (location := last[1].find(chunk)) is not None:
            return Found(last[0], location)
        for owner, table in self._tables:
            if (location := table.find(chunk)) is not None:
                self._last_hit = owner, table
                return Found(owner, location)
        return None

    def find_all(self, chunk: bytes) -> Iterator[Found]:
        """Every place known."""
        for owner, table in self._tables:
            for location in table.find_all(chunk):
                yield Found(owner, location)

    def packs(self) -> Iterator[tuple[bytes, PackRow]]:
        """(writer, pack) of every pack known; one that several tables name comes several times."""
        for owner, table in self._tables:
            for row in table.packs():
                yield owner, row

    def tables(self) -> Iterator[tuple[bytes, Table]]:
        """(writer, table) of all tables known."""
        yield from self._tables

    def use_of_packs(self, writer: bytes, chunks: Iterable[bytes]) -> Iterator[tuple[PackRow, int, int]]:
        """How many bytes of plaintext of each pack of a writer are those of ``chunks``, and of how many.

        A byte for each chunk of the index is all the memory that this takes.
        """
        tables = [table for owner, table in self._tables if owner == writer]
        marks = [bytearray(table.chunk_count) for table in tables]
        for chunk in chunks:
            for table, marked in zip(tables, marks, strict=True):
                for row in table.rows_of(chunk):
                    marked[row] = 1
        for table, marked in zip(tables, marks, strict=True):
            yield from _use_of_packs(table, marked)

    # -- gathering -------------------------------------------------------------------------------

    def add(self, writer: bytes, session: int, part: int, data: bytes) -> None:
        """Take in a table and keep it in the cache."""
        label = f"{session:08d}-{part:04d}"
        path = self._cache.path("index", writer.hex(), f"{label}.table")
        self._cache.write(path, with_digest([data]))
        with self._lock:
            self._load(writer, path)
            self._merge(writer)

    def load_cached(self, writer: bytes) -> None:
        """Map what the cache holds of a writer. A damaged file is dropped and fetched again."""
        folder = self._cache.folder / "index" / writer.hex()
        for path in sorted(folder.glob("*.table")):
            try:
                self._load(writer, path)
            except IntegrityFailure:
                path.unlink(missing_ok=True)

    def sync_all(self, vault: Vault) -> list[str]:
        """Fetch every index object that the store lists; for readers.

        Returns the names of those that are damaged, whose packs have to be read instead.
        """
        for writer in vault.keyring.writers:
            self.load_cached(writer)
        damaged = []
        for info in first_of_each(vault.store.list(names.INDEX)):
            if info.name in self._loaded:
                continue
            try:
                self._fetch(vault, info.name)
            except (IntegrityFailure, ObjectNotFound):
                damaged.append(info.name)
        return damaged

    def sync_session(self, vault: Vault, writer: bytes, session: int) -> int:
        """Fetch the index objects of one session by their names; how many there are."""
        for part in itertools.count():
            name = names.index(writer, session, part)
            if name in self._loaded:
                continue
            try:
                self._fetch(vault, name, is_relied_on=True)
            except ObjectNotFound:
                return part
            except IntegrityFailure:
                continue  # what it held is stored again; `verify` reports it
        raise AssertionError

    def mark_bad(self, packs: Iterable[bytes]) -> None:
        """Never again rely on these packs; the next backup stores their chunks anew."""
        self.bad_packs |= frozenset(packs)
        path = self._cache.path("bad-packs")
        self._cache.write(path, [name.hex().encode() + b"\n" for name in sorted(self.bad_packs)])

    def _read_bad_packs(self) -> frozenset[bytes]:
        try:
            lines = (self._cache.folder / "bad-packs").read_text().split()
            return frozenset(bytes.fromhex(line) for line in lines)
        except (FileNotFoundError, ValueError):
            return frozenset()

    def _fetch(self, vault: Vault, name: str, *, is_relied_on: bool = False) -> None:
        index = read_index_object(vault, name)
        if is_relied_on:
            vault.check_timely(name, index.writer)
        table = open_table(index, vault.secret.index_key, name)
        self.add(index.writer, index.session, index.part, table)

    def _load(self, writer: bytes, path: Path) -> None:
        with path.open("rb") as file:
            try:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                msg = f"{path}: is empty"
                raise IntegrityFailure(msg) from error
        size = len(data) - DIGEST_BYTES
        with memoryview(data) as view:
            if size < 0 or digest(view[:size]) != view[size:]:
                msg = f"{path}: is damaged"
                raise IntegrityFailure(msg)
        self._tables.append((writer, Table(data, str(path), size)))
        for label in _covered(path):
            self._loaded.add(f"{names.INDEX}{writer.hex()}/{label}")

    # -- merging ---------------------------------------------------------------------------------

    def _merge(self, writer: bytes) -> None:
        """Merge tables of about the same size, so that a lookup asks few."""
        tiers: dict[int, list[Table]] = {}
        for owner, table in self._tables:
            if owner == writer:
                tiers.setdefault(table.size_bytes.bit_length() // 3, []).append(table)
        for tables in tiers.values():
            if len(tables) >= _MERGE_AT:
                self._merge_tables(writer, tables)

    def _merge_tables(self, writer: bytes, tables: list[Table]) -> None:
        # Another process may have done the same: a table can be there twice, never not at all.
        paths = [Path(table.what) for table in tables]
        labels = sorted({label for path in paths for label in _covered(path)})
        target = self._cache.path("index", writer.hex(), f"{labels[0]}.{len(labels)}.table")
        self._cache.write(target.with_suffix(".parts"), [label.encode() + b"\n" for label in labels])
        self._cache.write(target, with_digest(merge_tables(tables)))
        for table in tables:  # or the merged table would be in memory beside all that it replaces
            table.release_pages()
        for path in paths:
            if path != target:
                path.unlink(missing_ok=True)
                path.with_suffix(".parts").unlink(missing_ok=True)
        self._tables = [pair for pair in self._tables if pair[1] not in tables]
        self._last_hit = None
        self._load(writer, target)


def _use_of_packs(table: Table, marked: bytearray) -> Iterator[tuple[PackRow, int, int]]:
    pack_of = [pack for pack, *_ in table.frames()]
    used, total = [0] * table.pack_count, [0] * table.pack_count
    for (_, frame, _, length), mark in zip(table, marked, strict=True):
        if frame < len(pack_of) and pack_of[frame] < table.pack_count:
            total[pack_of[frame]] += length
            used[pack_of[frame]] += length if mark else 0
    return zip(table.packs(), used, total, strict=True)


def _covered(path: Path) -> list[str]:
    """The labels of the index objects that a table file holds."""
    try:
        return path.with_suffix(".parts").read_text().split()
    except FileNotFoundError:
        return [path.stem]
