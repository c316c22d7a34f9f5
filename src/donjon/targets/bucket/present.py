"""What a bucket holds already of the history that is to be put there, by a restore that was cut off."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import msgspec

from donjon.clouds.objects.base import PROBE, Listed, Objects
from donjon.core.scratch import open_scratch

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Listed).decode


class Present:
    """The versions and delete markers of each key, to be taken one by one. Safe to share between threads."""

    def __init__(self, objects: Objects) -> None:
        """List the bucket. Raises what the port raises."""
        self._mutex = threading.Lock()
        self._rows = open_scratch(threads=True)
        # Listed newest first, so the largest number is the oldest of its key.
        self._rows.execute(
            "CREATE TABLE versions (key BLOB, number INTEGER, listed BLOB, PRIMARY KEY (key, number)) "
            "WITHOUT ROWID"
        )
        self._others: set[str] = set()
        probes = objects.prefix + PROBE
        number = 0
        for page in objects.pages(versions=True):
            rows = [
                (_bytes(row.key), at, _encode(row))
                for at, row in enumerate(page, number)
                if not row.key.startswith(probes)
            ]
            number += len(page)
            self._rows.execute("BEGIN")
            self._rows.executemany("INSERT INTO versions VALUES (?, ?, ?)", rows)
            self._rows.execute("COMMIT")
        self.is_empty = not self._rows.execute("SELECT EXISTS (SELECT * FROM versions)").fetchone()[0]

    def surplus(self, wanted: Iterable[str]) -> str | None:
        """A key of which there is more than it comes up in ``wanted``; None if there is none."""
        self._rows.execute(
            "CREATE TABLE counts (key BLOB PRIMARY KEY, surplus INTEGER NOT NULL) WITHOUT ROWID"
        )
        self._rows.execute("INSERT INTO counts SELECT key, count(*) FROM versions GROUP BY key")
        self._rows.execute("BEGIN")
        self._rows.executemany(
            "UPDATE counts SET surplus = surplus - 1 WHERE key = ?", ((_bytes(key),) for key in wanted)
        )
        self._rows.execute("COMMIT")
        found = self._rows.execute("SELECT key FROM counts WHERE surplus > 0 ORDER BY key LIMIT 1").fetchone()
        self._rows.execute("DROP TABLE counts")
        return found[0].decode(errors="replace") if found else None

    def take(self, key: str) -> Listed | None:
        """The oldest of this key that was not taken yet; None if all were."""
        if self.is_empty:
            return None
        with self._mutex:
            found = self._oldest(key)
            if found is None:
                return None
            self._rows.execute("DELETE FROM versions WHERE key = ? AND number = ?", (_bytes(key), found[0]))
        return _decode(found[1])

    def has_more(self, key: str) -> bool:
        """Whether there are some that were not taken yet."""
        if self.is_empty:
            return False
        with self._mutex:
            return self._oldest(key) is not None

    def is_other(self, key: str) -> bool:
        """Whether something else than what was to be put was found under this key."""
        return key in self._others

    def note_other(self, key: str) -> None:
        """From now on nothing may be put over it."""
        self._others.add(key)

    def close(self) -> None:
        """Forget all of it."""
        self._rows.close()

    def _oldest(self, key: str) -> tuple[int, bytes] | None:
        query = "SELECT number, listed FROM versions WHERE key = ? ORDER BY number DESC LIMIT 1"
        found: tuple[int, bytes] | None = self._rows.execute(query, (_bytes(key),)).fetchone()
        return found


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")
