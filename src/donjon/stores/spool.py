"""Fetches each object once and whole, into a file on this host's disk, and reads it from there.

A restore of everything reads each pack in hundreds of small ranges, and comes back to a dozen packs in turn.
In a bucket each range is a request, which costs money, milliseconds and processor time; from a disk none of
it matters.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from donjon.core.errors import IntegrityFailure, ObjectNotFound
from donjon.core.units import GIB
from donjon.stores.base import ObjectStore
from donjon.stores.wrapper import StoreWrapper

_LIMIT_BYTES = GIB
#: Each holds an object in memory on its way to the disk.
_FETCHING = 2


@dataclass(slots=True)
class _Spooled:
    """An object on the disk, or one that could not be put there."""

    size_bytes: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    file: IO[bytes] | None = None
    failed: bool = False
    readers: int = 0


class SpoolingStore(StoreWrapper):
    """Answers ranges of some objects from copies of them. Safe to share between threads.

    The copies have no name in the folder, so a crash leaves nothing behind. They are what the store has,
    which is ciphertext, and whoever reads checks it as always. Where an object cannot be copied (no room on
    the disk, cut short, gone), each range is asked of ``inner`` as without this.
    """

    def __init__(
        self, inner: ObjectStore, sizes: Mapping[str, int], folder: Path, limit_bytes: int = _LIMIT_BYTES
    ) -> None:
        """``sizes`` has the objects to copy, in bytes; about ``limit_bytes`` of copies are kept at a time."""
        super().__init__(inner)
        self._sizes = sizes
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._spooled: OrderedDict[str, _Spooled] = OrderedDict()
        self._mutex = threading.Lock()
        self._turns = threading.Semaphore(_FETCHING)

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        """See the port."""
        size = self._sizes.get(name)
        if size is not None and version is None and offset >= 0 and length is not None:
            spooled = self._enter(name, size)
            try:
                data = self._read(name, spooled, offset, length)
            finally:
                self._leave(spooled)
            if data is not None:
                return data
        return super().get(name, offset=offset, length=length, version=version)

    def close(self) -> None:
        """Drop the copies, and close the inner store."""
        with self._mutex:
            for spooled in self._spooled.values():
                _drop(spooled)
            self._spooled.clear()
        super().close()

    def _enter(self, name: str, size: int) -> _Spooled:
        """The copy of an object, which stays until ``_leave``; the oldest ones go for it."""
        with self._mutex:
            spooled = self._spooled.setdefault(name, _Spooled(size))
            self._spooled.move_to_end(name)
            spooled.readers += 1
            total = sum(one.size_bytes for one in self._spooled.values())
            for other, old in list(self._spooled.items()):
                if total <= self._limit_bytes:
                    break
                if not old.readers:
                    total -= old.size_bytes
                    _drop(self._spooled.pop(other))
            return spooled

    def _leave(self, spooled: _Spooled) -> None:
        with self._mutex:
            spooled.readers -= 1

    def _read(self, name: str, spooled: _Spooled, offset: int, length: int) -> bytes | None:
        """A range of the copy, which is made if need be: of several threads one does, the others wait."""
        with spooled.lock:
            if spooled.file is None and not spooled.failed:
                with self._turns:
                    spooled.file = self._copy(name, spooled.size_bytes)
                spooled.failed = spooled.file is None
            file = spooled.file
        return None if file is None else os.pread(file.fileno(), length, offset)

    def _copy(self, name: str, size: int) -> IO[bytes] | None:
        data = bytearray(size)
        try:
            self.inner.get_into(name, memoryview(data))
        except (IntegrityFailure, ObjectNotFound):
            return None
        file = None
        try:
            file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - closed by _drop
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        except OSError:
            if file is not None:
                file.close()
            return None
        return file


def _drop(spooled: _Spooled) -> None:
    if spooled.file is not None:
        spooled.file.close()
