"""Half-empty packs are copied forward: what is still needed of them is stored again, in packs of its own.

Packs never change. One that later points do not need goes once the points that do have gone. Which packs are
half empty this host can tell from its cache; nobody else could without a key. See ADR 0016.
"""

from __future__ import annotations

from collections.abc import Iterator

from donjon.backup.previous import all_previous, chunk_ids
from donjon.format.pack import PackKind
from donjon.repository.cache import Cache
from donjon.repository.writing import PackNumber, WriteSession


def half_empty(session: WriteSession, cache: Cache, percent: float) -> frozenset[PackNumber]:
    """The packs of data of which the previous points of this host need something, but less than that."""
    counted: dict[PackNumber, tuple[int, int]] = {}
    for row, used, total in session.index.use_of_packs(session.writer, _chunks(cache)):
        if row.kind == PackKind.DATA:
            before = counted.get((row.session, row.ordinal), (0, 0))
            counted[(row.session, row.ordinal)] = before[0] + used, before[1] + total
    return frozenset(pack for pack, (used, total) in counted.items() if 0 < used < total * percent / 100)


def _chunks(cache: Cache) -> Iterator[bytes]:
    """The ids of all chunks of data of the previous points."""
    for segments in all_previous(cache):
        for segment in segments:
            for entry in segment.entries():
                ids = chunk_ids(entry.chunks) if entry.chunks else []
                if entry.indirect:
                    yield from (data for one in ids for data in chunk_ids(segment.lists.get(one, b"")))
                else:
                    yield from ids
