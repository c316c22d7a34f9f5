"""Fetches each object once and whole, into a file on this host's disk, and reads it from there.

A restore of everything reads each pack in hundreds of small ranges, and comes back to a dozen packs in turn.
In a bucket each range is a request, which costs money, milliseconds and processor time; from a disk none of
it matters. The objects that will be wanted next are fetched at the same time, as many as ``inner.parallel``.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from donjon.core.errors import DonjonError, IntegrityFailure, ObjectNotFound
from donjon.core.units import GIB
from donjon.stores.base import ObjectStore
from donjon.stores.wrapper import StoreWrapper

_LIMIT_BYTES = GIB


class _Stopped(DonjonError):
    """There is no room for a copy, or no use any more."""


@dataclass(slots=True)
class _Spooled:
    """An object on the disk, or one that could not be put there. ``users`` read it or fetch it."""

    size_bytes: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    file: IO[bytes] | None = None
    failed: bool = False
    users: int = 0
    wanted: bool = False


class SpoolingStore(StoreWrapper):
    """Answers ranges of some objects from copies of them. Safe to share between threads.

    The copies have no name in the folder, so a crash leaves nothing behind. They are what the store has,
    which is ciphertext, and whoever reads checks it as always. Where an object cannot be copied (no room on
    the disk, cut short, gone), each range is asked of ``inner`` as without this.
    """

    def __init__(
        self,
        inner: ObjectStore,
        sizes: Mapping[str, int],
        folder: Path,
        order: Iterable[str] = (),
        limit_bytes: int = _LIMIT_BYTES,
    ) -> None:
        """``sizes`` has the objects to copy, in bytes; about ``limit_bytes`` of copies are kept at a time.

        ``order`` is that in which they will be wanted, as far as it is known.
        """
        super().__init__(inner)
        self._sizes = sizes
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._order = [name for name in order if name in sizes]
        self._places = {name: place for place, name in enumerate(self._order)}
        self._begun: set[str] = set()
        self._spooled: OrderedDict[str, _Spooled] = OrderedDict()
        self._mutex = threading.Lock()
        self._ahead = inner.parallel - 1
        self._turns = threading.Semaphore(max(self._ahead, 1))
        self._threads: list[threading.Thread] = []
        self._closing = False

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        """See the port."""
        size = self._sizes.get(name)
        if size is not None and version is None and offset >= 0 and length is not None:
            spooled = self._enter(name)
            try:
                file = self._fetched(name, spooled)
                if file is not None:
                    return os.pread(file.fileno(), length, offset)
            finally:
                self._leave(spooled)
        return super().get(name, offset=offset, length=length, version=version)

    def close(self) -> None:
        """Drop the copies, and close the inner store."""
        self._closing = True  # what is being fetched ends at its next piece
        for thread in self._threads:
            thread.join()
        with self._mutex:
            for spooled in self._spooled.values():
                _drop(spooled)
            self._spooled.clear()
        super().close()

    def _enter(self, name: str) -> _Spooled:
        """The copy of an object, which stays until ``_leave``; those behind it in the order are begun."""
        with self._mutex:
            spooled = self._use(name)
            if not spooled.wanted:
                spooled.wanted = True
                place = self._places.get(name, len(self._order)) + 1
                for following in self._order[place : place + self._ahead]:
                    self._begin(following)
            return spooled

    def _begin(self, name: str) -> None:
        """Fetch an object ahead, but not at the cost of others, and once only."""
        room = self._limit_bytes - sum(one.size_bytes for one in self._spooled.values() if one.users)
        if name in self._begun or self._sizes[name] > room:
            return
        # A daemon, as nobody has to wait for it when the command ends.
        thread = threading.Thread(target=self._fetch_ahead, args=(name, self._use(name)), daemon=True)
        thread.start()
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]

    def _use(self, name: str) -> _Spooled:
        """Count one more user of a copy, and drop the oldest without any that there is no room for."""
        self._begun.add(name)
        spooled = self._spooled.setdefault(name, _Spooled(self._sizes[name]))
        self._spooled.move_to_end(name)
        spooled.users += 1
        total = sum(one.size_bytes for one in self._spooled.values())
        for other, old in list(self._spooled.items()):
            if total <= self._limit_bytes:
                break
            if not old.users:
                total -= old.size_bytes
                _drop(self._spooled.pop(other))
        return spooled

    def _leave(self, spooled: _Spooled) -> None:
        with self._mutex:
            spooled.users -= 1

    def _fetch_ahead(self, name: str, spooled: _Spooled) -> None:
        try:
            with self._turns:
                self._fetched(name, spooled)
        except DonjonError:
            return  # told when it is wanted, if it fails again
        finally:
            self._leave(spooled)

    def _fetched(self, name: str, spooled: _Spooled) -> IO[bytes] | None:
        """The copy, which is made if need be: of several threads one does, the others wait."""
        with spooled.lock:
            if spooled.file is None and not spooled.failed:
                spooled.file = self._copy(name, spooled.size_bytes)
                spooled.failed = spooled.file is None
            return spooled.file

    def _copy(self, name: str, size: int) -> IO[bytes] | None:
        try:
            file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - closed by _drop
        except OSError:
            return None

        def write(offset: int, piece: memoryview) -> None:
            if self._closing:
                msg = "closed"
                raise _Stopped(msg)
            try:
                while piece:
                    count = os.pwrite(file.fileno(), piece, offset)
                    piece, offset = piece[count:], offset + count
            except OSError as error:
                raise _Stopped(str(error)) from error

        try:
            self.inner.stream(name, size, write)
        except (IntegrityFailure, ObjectNotFound, _Stopped):
            file.close()
            return None
        except BaseException:
            file.close()
            raise
        return file


def _drop(spooled: _Spooled) -> None:
    if spooled.file is not None:
        spooled.file.close()
