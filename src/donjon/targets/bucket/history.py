"""A bucket as the target of the history of another: older versions and delete markers, in their order."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from donjon.clouds.objects.base import Objects
from donjon.clouds.objects.entries import is_marker
from donjon.clouds.objects.keys import VERSION, key_of_folder
from donjon.core.errors import DonjonError
from donjon.format.entries import Entry
from donjon.targets.base import NewFile, Outcome, Overwrite
from donjon.targets.bucket.target import BucketTarget


class HistoryTarget(BucketTarget):
    """Paths are those below ``versions/`` of a point; each put lays a version over the one before.

    What belongs to one key has to come in its order, and one batch after the other: see
    ``Request.in_order``. Different keys go up at the same time.
    """

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects, Overwrite.ALWAYS)

    def write_files(self, files: Sequence[NewFile]) -> list[Outcome]:
        """See ``BucketTarget``."""
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

    def hide(self, folder: bytes) -> None:
        """Delete what is current under the key that a directory is called like. Raises as ``write_files``."""
        key = self._prefixed(folder, key_of_folder)
        try:
            self._objects.hide(key)
        except DonjonError as error:
            raise self._failure(folder, error) from error

    def _put(self, file: NewFile) -> Outcome:
        if not is_marker(file.entry):
            return super()._put(file)
        try:
            self.hide(file.path.rpartition(b"/")[0])
        except OSError as error:
            return error
        return True

    def _key(self, path: bytes, entry: Entry | None = None) -> str | None:
        folder, _, name = path.rpartition(b"/")
        if not name.startswith(VERSION):
            raise OSError(errno.EINVAL, "is no older version", path)
        return self._prefixed(folder, key_of_folder)
