"""What a session has stored so far, on the client's disk, so that a crash loses no stored pack.

A pack is written down before it is put and again once the put has succeeded. The journal of a session
that ended without a commit tells the next one which packs it may use; of a pack whose put was under
way, the store is asked. A lock on the file tells a running session from a dead one.
"""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path
from typing import BinaryIO

import msgspec

from donjon.codec.digest import DIGEST_BYTES, digest
from donjon.core.errors import DonjonError
from donjon.format import names
from donjon.format.pack import Frame
from donjon.format.table import PackRow
from donjon.repository.cache import Cache
from donjon.repository.vault import Vault

_LENGTH_BYTES = 4


class _Intent(msgspec.Struct, array_like=True, tag=1):
    row: PackRow
    frames: list[tuple[int, int, int, int, list[tuple[bytes, int]]]]


class _Stored(msgspec.Struct, array_like=True, tag=2):
    name: bytes


_decode = msgspec.msgpack.Decoder(_Intent | _Stored).decode


class Journal:
    """The journal of a running session. ``intend`` and ``stored`` may be called from many threads."""

    def __init__(self, cache: Cache, writer: bytes, session: int) -> None:
        self.path = cache.path("journal", writer.hex(), f"{session:08d}.journal")
        # Locked before it has its name: a session that starts right now must not take it for a dead one's.
        new = self.path.with_suffix(".new")
        self._file: BinaryIO = new.open("ab", buffering=0)
        new.chmod(0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        new.rename(self.path)
        self._lock = threading.Lock()

    def intend(self, row: PackRow, frames: list[Frame]) -> None:
        """A pack is about to be put."""
        rows = [(f.number, f.sealed_bytes, f.raw_bytes, int(f.compression), list(f.chunks)) for f in frames]
        self._append(_Intent(row, rows))

    def stored(self, row: PackRow) -> None:
        """The put of a pack has succeeded."""
        self._append(_Stored(row.name))

    def _append(self, record: _Intent | _Stored) -> None:
        data = msgspec.msgpack.encode(record)
        with self._lock:
            self._file.write(len(data).to_bytes(_LENGTH_BYTES, "little") + digest(data) + data)

    def discard(self) -> None:
        """The session has committed: nothing is left to take over."""
        self.path.unlink(missing_ok=True)
        self._file.close()

    def close(self) -> None:
        """Keep the journal for the next session. Calling it after ``discard`` is harmless."""
        self._file.close()


class Orphans:
    """Packs that dead sessions of this host left behind, with the journals that name them."""

    def __init__(self) -> None:
        self.packs: list[tuple[PackRow, list[Frame]]] = []
        self._journals: list[tuple[Path, BinaryIO]] = []

    @classmethod
    def find(cls, cache: Cache, vault: Vault, writer: bytes) -> Orphans:
        """Take over what dead sessions left. Only what the store really has is returned."""
        found = cls()
        for path in sorted((cache.folder / "journal" / writer.hex()).glob("*.journal")):
            file = path.open("rb")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # its session is alive
                file.close()
                continue
            found._journals.append((path, file))
            found._take(file.read(), vault)
        return found

    def _take(self, data: bytes, vault: Vault) -> None:
        intents: dict[bytes, _Intent] = {}
        stored: set[bytes] = set()
        at = 0
        while at < len(data):
            start = at + _LENGTH_BYTES + DIGEST_BYTES
            end = start + int.from_bytes(data[at : at + _LENGTH_BYTES], "little")
            if digest(data[start:end]) != data[at + _LENGTH_BYTES : start]:
                break  # the end was torn by the crash, or bits have changed since
            record = _decode(data[start:end])
            at = end
            if isinstance(record, _Intent):
                intents[record.row.name] = record
            else:
                stored.add(record.name)
        now = vault.store.now()
        for name, intent in intents.items():
            row = intent.row
            if vault.outlasts_backup(row.lock_until, now) and (name in stored or _exists(vault, row)):
                self.packs.append((row, [Frame(*frame) for frame in intent.frames]))

    def discard(self) -> None:
        """Their packs are in the index of the vault now."""
        for path, file in self._journals:
            path.unlink(missing_ok=True)
            file.close()
        self._journals = []

    def release(self) -> None:
        """Leave the journals for a later session."""
        for _, file in self._journals:
            file.close()
        self._journals = []


def _exists(vault: Vault, row: PackRow) -> bool:
    try:
        return vault.store.head(names.pack(row.name)).size_bytes == row.size_bytes
    except DonjonError:  # a writer that may not ask stores the pack's chunks again
        return False
