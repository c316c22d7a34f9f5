"""A bucket as the target of the history of another: versions and delete markers, in their order."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from functools import partial

from donjon.clouds.objects.base import Got, Listed, Objects, quiet
from donjon.clouds.objects.entries import is_marker
from donjon.clouds.objects.keys import VERSION, key_of, key_of_folder
from donjon.core.errors import DonjonError, IntegrityFailure, ObjectNotFound
from donjon.format.entries import Entry
from donjon.targets.base import Buffer, FileWriter, NewFile, Outcome, Overwrite
from donjon.targets.bucket.present import Present
from donjon.targets.bucket.target import BucketTarget, whole_bytes

_OTHER = "something else is there already, so nothing is put over it"


class HistoryTarget(BucketTarget):
    """Each put lays a version over the one before. What is ``present`` already is compared, and stays.

    Paths are those below ``versions/`` of a point, or with ``current`` those below ``objects/``. What belongs
    to one key has to come in its order, and one batch after the other: see ``Request.in_order``. Different
    keys go up at the same time.
    """

    def __init__(self, objects: Objects, present: Present, *, current: bool = False) -> None:
        super().__init__(objects, Overwrite.ALWAYS)
        self._present, self._current = present, current

    def write_files(self, files: Sequence[NewFile]) -> list[Outcome]:
        """See ``BucketTarget``."""
        if self._current:  # one of each key
            return super().write_files(files)
        groups: dict[bytes, list[int]] = {}
        for number, file in enumerate(files):
            groups.setdefault(file.path.rpartition(b"/")[0], []).append(number)
        outcomes: list[Outcome] = [False] * len(files)

        def put(group: list[int]) -> None:
            for number in group:
                outcomes[number] = self._put(files[number])

        for _ in self._pool.map(put, groups.values()):
            pass
        return outcomes

    def create_file(self, path: bytes, entry: Entry) -> FileWriter | None:
        """See the port. What is there already is compared as if it were written."""
        key = self.key(path)
        there = self._take(key, path)
        if there is None:
            return super().create_file(path, entry)
        if there.is_marker or there.size_bytes != entry.size:
            raise self._other(key, path)

        def read(offset: int, length: int) -> bytes:
            return self._read(path, there, offset=offset, length=length).data

        return _Comparing(entry.size, read, partial(self._other, key, path))

    def hide_last(self, folder: bytes) -> None:
        """Delete what is current under the key that a directory is called like. Raises as ``write_files``."""
        key = self._prefixed(folder, key_of_folder)
        there = self._take(key, folder)
        if there is None:
            self._hide(key, folder)
        elif not there.is_marker:
            raise self._other(key, folder)

    def key(self, path: bytes) -> str:
        """The key of a version. Raises ``OSError`` for a path that no key can have."""
        if self._current:
            return self._prefixed(path, key_of)
        folder, _, name = path.rpartition(b"/")
        if not name.startswith(VERSION):
            raise OSError(errno.EINVAL, "is no older version", path)
        return self._prefixed(folder, key_of_folder)

    @property
    def marks_deletions(self) -> bool:
        """Whether what is deleted is listed, with a delete marker over it."""
        return self._objects.marks_deletions

    def leaves_trace(self, entry: Entry) -> bool:
        """Whether it is listed once it was put: a delete marker is at S3 alone."""
        return self.marks_deletions or not is_marker(entry)

    def _key(self, path: bytes, entry: Entry | None = None) -> str:
        return self.key(path)

    def _put(self, file: NewFile) -> Outcome:
        try:
            key = self.key(file.path)
            if not self.leaves_trace(file.entry):
                self._check_own(key, file.path)
                if not self._present.has_more(key):  # else what came after it is there
                    self._hide(key, file.path)
                return True
            there = self._take(key, file.path)
            if there is not None:
                self._compare(key, there, file)
                return False
            if is_marker(file.entry):
                self._hide(key, file.path)
                return True
        except OSError as error:
            return error
        except IntegrityFailure as error:
            return error
        return super()._put(file)

    def _take(self, key: str, path: bytes) -> Listed | None:
        self._check_own(key, path)
        return self._present.take(key)

    def _check_own(self, key: str, path: bytes) -> None:
        """Raises ``OSError`` once something else was found under this key."""
        if self._present.is_other(key):
            raise OSError(errno.EEXIST, _OTHER, path)

    def _compare(self, key: str, there: Listed, file: NewFile) -> None:
        """Raises ``OSError`` unless what is there is this version."""
        if there.is_marker and is_marker(file.entry):
            return
        same = there.is_marker == is_marker(file.entry) and there.size_bytes == file.entry.size
        if same:
            got = self._read(file.path, there, most_bytes=max(there.size_bytes, 1))
            same = got.data == whole_bytes(file)
            if quiet(got.metadata) != quiet(self._metadata(file.path, file.entry)):
                self._note(file.path, "metadata that differs from what the same bytes have there")
        if not same:
            raise self._other(key, file.path)

    def _read(self, path: bytes, there: Listed, **part: int) -> Got:
        try:
            return self._objects.read(there, tags=False, **part)
        except DonjonError as error:
            raise self._failure(path, error) from error

    def _other(self, key: str, path: bytes) -> OSError:
        self._present.note_other(key)
        return OSError(errno.EEXIST, _OTHER, path)

    def _hide(self, key: str, path: bytes) -> None:
        try:
            self._objects.hide(key)
        except ObjectNotFound:
            return  # deleted before, where that leaves no marker
        except DonjonError as error:
            raise self._failure(path, error) from error


class _Comparing:
    """See ``FileWriter``. Writes nothing, and refuses data that is not what ``read`` gives of the object."""

    def __init__(
        self, size_bytes: int, read: Callable[[int, int], bytes], other: Callable[[], OSError]
    ) -> None:
        self._left, self._read, self._other = size_bytes, read, other
        self._mutex = threading.Lock()

    def write_at(self, offset: int, data: Buffer) -> None:
        if self._read(offset, len(data)) != data:
            raise self._other()
        with self._mutex:
            self._left -= len(data)

    def finish(self) -> None:
        """Raises ``OSError`` if not all of it was compared: what is there may not be a hole."""
        if self._left:
            raise self._other()

    def abort(self) -> None:
        """Nothing."""
