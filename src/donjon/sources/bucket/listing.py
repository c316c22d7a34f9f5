"""The list of a bucket in the order of a tree.

A bucket lists ``a``, ``a!b``, ``a/b``: by the bytes of whole keys. A tree goes by the names between the
slashes, so that what is in ``a`` follows it at once. The rows wait in a database, so memory does not grow
with the bucket.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

import msgspec

from donjon.clouds.objects.base import Listed
from donjon.clouds.objects.keys import VERSION, folder_of, path_of
from donjon.core.scratch import open_scratch

#: The two directories at the top of a point.
OBJECTS: Final = b"objects"
VERSIONS: Final = b"versions"
#: Stands for the slash in what rows are sorted by. No name has it, and nothing sorts before it.
SEPARATOR: Final = b"\0"

_BATCH: Final = 1000
_NS: Final = 1_000_000_000
#: Longer ids of versions are cut in names; the whole one is among the attributes.
_MAX_ID: Final = 150

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Listed).decode


class Listing:
    """Rows, sorted. Keys are relative to ``prefix``. Used by one thread."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._rows = open_scratch()
        self._rows.execute("CREATE TABLE items (place BLOB PRIMARY KEY, listed BLOB NOT NULL) WITHOUT ROWID")

    def fill(self, pages: Iterable[list[Listed]], *, versions: bool) -> None:
        """Take a whole list. What it tells twice, as it changes meanwhile, counts as it was told last."""
        pending: list[Listed] = []  # of one key and second, whose order decides their names
        for page in pages:
            rows = [(self._place(row), _encode(row)) for row in page if row.is_latest and not row.is_marker]
            if versions:
                pending += page
                last = (page[-1].key, page[-1].modified_ns // _NS) if page else None
                done = [row for row in pending if (row.key, row.modified_ns // _NS) != last]
                pending = [row for row in pending if (row.key, row.modified_ns // _NS) == last]
                rows += self._older(done)
            self._insert(rows)
        self._insert(self._older(pending))
        self._rearrange()

    def rows(self) -> Iterator[tuple[bytes, Listed]]:
        """(names joined by ``SEPARATOR``, what was listed), in the order of a tree."""
        cursor = self._rows.cursor()
        cursor.arraysize = _BATCH
        cursor.execute("SELECT place, listed FROM items ORDER BY place")
        while batch := cursor.fetchmany():
            for place, listed in batch:
                yield place, _decode(listed)

    def close(self) -> None:
        """Forget all of it."""
        self._rows.close()

    def _insert(self, rows: list[tuple[bytes, bytes]]) -> None:
        self._rows.execute("BEGIN")
        self._rows.executemany("INSERT OR REPLACE INTO items VALUES (?, ?)", rows)
        self._rows.execute("COMMIT")

    def _relative(self, row: Listed) -> bytes:
        return row.key.encode("utf-8", "surrogateescape")[len(self._prefix.encode()) :]

    def _place(self, row: Listed, *, marked: bool = False) -> bytes:
        path = path_of(self._relative(row), marked=marked)
        return OBJECTS + SEPARATOR + path.replace(b"/", SEPARATOR)

    def _older(self, rows: Iterable[Listed]) -> list[tuple[bytes, bytes]]:
        """Older versions and delete markers, each a file in a directory that is called like its key."""
        made = []
        for (_, _), group in groupby(rows, key=lambda row: (row.key, row.modified_ns // _NS)):
            for number, row in enumerate(reversed(list(group))):  # listed newest first
                if row.is_latest and not row.is_marker:
                    continue
                folder = folder_of(self._relative(row)).replace(b"/", SEPARATOR)
                place = SEPARATOR.join((VERSIONS, folder, _version_name(row, number)))
                made.append((place, _encode(row)))
        return made

    def _rearrange(self) -> None:
        """Mark the names of objects that folders have too: ``a`` beside ``a/b``.

        Sorted, such an object is right before what is in the folder.
        """
        cursor = self._rows.cursor()
        cursor.arraysize = _BATCH
        cursor.execute("SELECT place FROM items ORDER BY place")
        before, both = b"\0", []
        while batch := cursor.fetchmany():
            for (place,) in batch:
                if place.startswith(before) and place[len(before) : len(before) + 1] == SEPARATOR:
                    both.append(before)
                before = place
            if len(both) >= _BATCH:
                self._mark(both)
                both = []
        self._mark(both)

    def _mark(self, places: list[bytes]) -> None:
        """Rows that the running query has passed already."""
        for place in places:
            (told,) = self._rows.execute("SELECT listed FROM items WHERE place = ?", (place,)).fetchone()
            self._rows.execute("DELETE FROM items WHERE place = ?", (place,))
            self._insert([(self._place(_decode(told), marked=True), told)])


def _version_name(row: Listed, number: int) -> bytes:
    """Sorts by time, then by the order in which versions of one second came."""
    moment = datetime.fromtimestamp(row.modified_ns // _NS, UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in row.version[:_MAX_ID])
    kind = "deleted" if row.is_marker else "version"
    return VERSION + f"{moment}-{number:04d}-{kind}-{kept or 'null'}".encode("ascii", "replace")
