"""What lies in a vault, and until when: one listing of the store, beside what signed objects tell.

Compact, for a vault can have millions of packs: some hundred bytes for each.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from donjon.core.clock import SECONDS_PER_DAY
from donjon.core.errors import IntegrityFailure, ObjectNotFound
from donjon.core.events import Progress
from donjon.custody.index_rows import read_rows
from donjon.format import names
from donjon.format.manifest import PackKey
from donjon.format.table import PackRow
from donjon.repository.cache import Cache
from donjon.repository.epochs import LockEnds, read_epochs
from donjon.repository.packbits import PackBits
from donjon.repository.rebuild import pack_digest, read_trailer
from donjon.repository.vault import Vault
from donjon.stores.base import ObjectInfo

_ABSENT = -1


class PackTable:
    """Every pack that an index object names or that the store has, by number, from 0.

    Whose a pack is its writer signed, in an index object or in its own trailer. A stolen key can sign a
    second answer, so all answers count: a pack is needed if any of them is.
    """

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._sessions: dict[tuple[bytes, int], int] = {}
        self._places: list[tuple[bytes, int]] = []
        self._session_of = array("I")
        self._ordinal_of = array("I")
        self._more: dict[int, list[PackKey]] = {}
        self._stored_at = array("q")
        self._listed_end = array("q")
        self._sizes = array("q")
        self._versions: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def claim(self, digest: bytes, key: PackKey) -> int:
        """Take in whose a pack is; its number."""
        number = self._numbers.get(digest)
        if number is None:
            number = self._numbers[digest] = len(self._ordinal_of)
            self._session_of.append(self._session(key[:2]))
            self._ordinal_of.append(key[2])
            self._stored_at.append(0)
            self._listed_end.append(0)
            self._sizes.append(_ABSENT)
        elif key not in self.keys(number):
            self._more.setdefault(number, []).append(key)
        return number

    def _session(self, place: tuple[bytes, int]) -> int:
        number = self._sessions.setdefault(place, len(self._places))
        if number == len(self._places):
            self._places.append(place)
        return number

    def seen(self, number: int, info: ObjectInfo) -> None:
        """The store has it."""
        self._sizes[number] = info.size_bytes
        self._stored_at[number] = info.stored_at
        self._listed_end[number] = info.retain_until or 0
        if info.version is not None:
            self._versions[number] = info.version

    def there(self) -> PackBits:
        """The packs that the store has, by every answer to whose they are."""
        bitmaps = [bytearray() for _ in self._places]
        for session, ordinal, size in zip(self._session_of, self._ordinal_of, self._sizes, strict=True):
            if size != _ABSENT:
                bits, at = bitmaps[session], ordinal >> 3
                if at >= len(bits):
                    bits.extend(bytes(at + 1 - len(bits)))
                bits[at] |= 1 << (ordinal & 7)
        found = PackBits.of_bitmaps(dict(zip(self._places, bitmaps, strict=True)))
        for number, keys in self._more.items():
            if self.is_there(number):
                for key in keys:
                    found.add(key)
        return found

    def number(self, digest: bytes) -> int | None:
        """The number of a pack that is known."""
        return self._numbers.get(digest)

    def keys(self, number: int) -> tuple[PackKey, ...]:
        """Whose it is, by every answer."""
        writer, session = self._places[self._session_of[number]]
        first = (writer, session, self._ordinal_of[number])
        return (first, *self._more[number]) if number in self._more else (first,)

    def is_there(self, number: int) -> bool:
        """Whether the store has it."""
        return self._sizes[number] != _ABSENT

    def size_bytes(self, number: int) -> int:
        """Of a pack that is there."""
        return self._sizes[number]

    def version(self, number: int) -> str | None:
        """The version that counts, of a pack that is there."""
        return self._versions.get(number)

    def stored_at(self, number: int) -> int:
        """When the store received it, in Unix seconds."""
        return self._stored_at[number]

    def listed_end(self, number: int) -> int:
        """Until when the store says that it is locked; 0 if it did not."""
        return self._listed_end[number]

    def present(self) -> Iterator[tuple[int, bytes]]:
        """Number and digest of every pack that is there."""
        sizes = self._sizes
        return ((number, digest) for digest, number in self._numbers.items() if sizes[number] != _ABSENT)

    def marks(self, wanted: PackBits) -> bytearray:
        """A byte for each pack, by number: 1 if any answer to whose it is says one of ``wanted``."""
        bitmaps = [wanted.bitmap(*place) for place in self._places]
        marks = bytearray(len(self._ordinal_of))
        for number, (session, ordinal) in enumerate(zip(self._session_of, self._ordinal_of, strict=True)):
            bits = bitmaps[session]
            if ordinal >> 3 < len(bits) and bits[ordinal >> 3] >> (ordinal & 7) & 1:
                marks[number] = 1
        for number, keys in self._more.items():
            marks[number] |= any(key in wanted for key in keys)
        return marks


@dataclass(frozen=True, slots=True)
class IndexPart:
    """An index object, and the numbers of the packs that it lists."""

    info: ObjectInfo
    packs: array[int]


@dataclass(slots=True)
class Inventory:
    """A vault as its store lists it. Times are in Unix seconds by the store's clock.

    Of each name the oldest version is here; ``covers`` are the versions and delete markers over them and
    ``hidden`` the names that a delete marker is on top of. ``unknown`` are packs whose trailer does not say
    whose they are.
    """

    now: int
    lock_s: int
    longest_backup_s: int
    lists_locks: bool
    ends: LockEnds
    objects: int = 0
    packs: PackTable = field(default_factory=PackTable)
    index: list[IndexPart] = field(default_factory=list)
    others: dict[str, ObjectInfo] = field(default_factory=dict)
    covers: list[ObjectInfo] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    unknown: list[ObjectInfo] = field(default_factory=list)
    damaged: list[IntegrityFailure] = field(default_factory=list)

    def locked_until(self, info: ObjectInfo) -> int:
        """Until when an object other than a pack is locked at least, as far as anybody told."""
        if self.lists_locks:
            return info.retain_until or 0
        return max(self._put_end(info.stored_at), self.ends.name(info.name))

    def pack_locked_until(self, number: int) -> int:
        """Until when a pack that is there is locked at least."""
        if self.lists_locks:
            return self.packs.listed_end(number)
        told = max(map(self.ends.pack, self.packs.keys(number))) if self.ends else 0
        return max(self._put_end(self.packs.stored_at(number)), told)

    def _put_end(self, stored_at: int) -> int:
        """Until when what came then is locked at least: its session began up to a longest backup before.

        What writers say of their locks does not count here: a stolen key could tell of too long a one.
        """
        return stored_at + self.lock_s - self.longest_backup_s

    def may_be_locked(self, stored_at: int, end: int) -> bool:
        """Whether a lock may still hold on what came then, and is locked until ``end`` at least."""
        if self.lists_locks:
            return end > self.now
        return max(end, stored_at + self.lock_s + SECONDS_PER_DAY) > self.now

    def under(self, folder: str) -> Iterator[ObjectInfo]:
        """The objects other than packs and index objects whose name starts so."""
        return (info for name, info in self.others.items() if name.startswith(folder))


def take_inventory(vault: Vault, cache: Cache, progress: Progress) -> Inventory:
    """List the store, and read index objects that the cache does not have. List the points before.

    Otherwise a point that comes between would seem to need packs that are not there.
    """
    store = vault.store
    lock_s, longest_backup_s = vault.object.lock_s, vault.object.longest_backup_s
    ends = read_epochs(vault, cache)
    found = Inventory(store.now(), lock_s, longest_backup_s, store.lists_locks, ends)
    for name, group in itertools.groupby(store.list(), key=lambda info: info.name):
        versions = list(group)
        found.objects += len(versions)
        oldest = versions[-1]
        if len(versions) > 1 or oldest.delete_marker:
            written = [info for info in versions if not info.delete_marker]
            if versions[0].delete_marker:
                found.hidden.add(name)
            found.covers += [info for info in versions if not written or info is not written[-1]]
            if not written:
                continue
            oldest = written[-1]
        _take(vault, cache, found, oldest)
        progress.advance(items=1, current=name)
    return found


def _take(vault: Vault, cache: Cache, found: Inventory, info: ObjectInfo) -> None:
    try:
        if info.name.startswith(names.PACKS):
            _take_pack(vault, found, info)
        elif info.name.startswith(names.INDEX):
            writer, rows = read_rows(vault, cache, info.name)
            packs = array("I", (_claim(found.packs, writer, row) for row in rows))
            found.index.append(IndexPart(info, packs))
        else:
            found.others[info.name] = info
    except ObjectNotFound:  # it went after it was listed
        return
    except IntegrityFailure as error:
        found.damaged.append(error)
        if info.name.startswith(names.PACKS):
            found.unknown.append(info)


def _claim(packs: PackTable, writer: bytes, row: PackRow) -> int:
    return packs.claim(row.name, (writer, row.session, row.ordinal))


def _take_pack(vault: Vault, found: Inventory, info: ObjectInfo) -> None:
    digest = pack_digest(info.name)
    number = found.packs.number(digest)
    if number is None:  # in no index object: the pack of a session that runs or died
        trailer = read_trailer(vault, info.name)
        number = found.packs.claim(digest, (trailer.writer, trailer.session, trailer.ordinal))
    found.packs.seen(number, info)
