"""A bucket as the target of a restore, of points of buckets and of file trees alike."""

from __future__ import annotations

import errno
import mimetypes
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

from donjon.clouds.objects.base import MAX_KEY_BYTES, Metadata, Objects, quiet
from donjon.clouds.objects.entries import is_marker, metadata_of
from donjon.clouds.objects.keys import key_of
from donjon.core.errors import (
    CredentialsRejected,
    DonjonError,
    IntegrityFailure,
    PermissionMissing,
    StoreError,
    StoreUnavailable,
    TargetFailed,
)
from donjon.core.units import MIB
from donjon.format.entries import Entry
from donjon.targets.base import FileWriter, NewFile, Outcome, Overwrite
from donjon.targets.bucket.writer import ObjectWriter

_THREADS: Final = 16
_RANGE_BYTES: Final = 8 * MIB
_OF_FILES: Final = "owners, modes, times and attributes of files"
#: The top of a point of a bucket; see ``sources.bucket.listing``.
_OBJECTS: Final = b"objects/"
_VERSIONS: Final = b"versions/"


class BucketTarget:
    """Restores to the objects below the prefix of ``objects``.

    ``keys``: paths are those that keys were given when a bucket was backed up, and become these keys again;
    ``whole``: they begin with the directories at the top of such a point, and older versions are left out.
    Otherwise the paths are the keys. Directories and links of all kinds but hard ones have no counterpart.
    """

    def __init__(
        self, objects: Objects, overwrite: Overwrite, *, keys: bool = False, whole: bool = False
    ) -> None:
        self._objects = objects
        self._overwrite = overwrite
        self._keys, self._whole = keys, whole
        self._pool = ThreadPoolExecutor(_THREADS, "donjon-put")
        self._mutex = threading.Lock()
        self._lost: dict[str, tuple[bytes, int]] = {}
        self._made = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads, and give back the connections."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._objects.close()

    def warnings(self) -> list[tuple[bytes, str]]:
        """(first path, what was lost and how often), for each kind of loss."""
        with self._mutex:
            rows = sorted(self._lost.items())
        return [(path, f"left out, of {count} items: {what}") for what, (path, count) in rows]

    def make_directory(self, path: bytes) -> None:
        """Nothing: keys need no directories."""

    def finish_directory(self, path: bytes, entry: Entry) -> None:
        """Nothing."""

    def write_files(self, files: Sequence[NewFile]) -> list[Outcome]:
        """See the port. Raises ``TargetFailed`` if the bucket cannot be reached, ``PermissionMissing``."""
        return list(self._pool.map(self._put, files))

    def create_file(self, path: bytes, entry: Entry) -> FileWriter | None:
        key = self._key(path, entry)
        if key is None:
            return None
        replace = self._overwrite is not Overwrite.NEVER
        try:
            if not replace and self._objects.look(key) is not None:
                return None
            upload = self._objects.start(key, entry.size, self._metadata(path, entry), replace=replace)
        except DonjonError as error:
            raise self._failure(path, error) from error
        self._made = True
        return ObjectWriter(path, entry, upload, self._failure)

    def make_link(self, path: bytes, existing: bytes) -> bool:
        """Put the same bytes under the other name as well."""
        replace = self._overwrite is not Overwrite.NEVER
        source, key = self._key(existing), self._key(path)
        if source is None or key is None:
            return False
        try:
            found = self._objects.look(source)
            if found is None:
                raise FileNotFoundError(errno.ENOENT, "its first name is gone", path)
            if not replace and self._objects.look(key) is not None:
                return False
            fd = self._fetch(source)
            if fd is None:
                raise FileNotFoundError(errno.ENOENT, "its first name is gone", path)
            try:
                upload = self._objects.start(key, found[0].size_bytes, found[1], replace=replace)
                parts = 0
                while data := os.pread(fd, upload.part_bytes, parts * upload.part_bytes):
                    upload.part(parts, data)
                    parts += 1
                return upload.complete(parts)
            finally:
                os.close(fd)
        except DonjonError as error:
            raise self._failure(path, error) from error

    def make_special(self, path: bytes, entry: Entry) -> bool:
        """Raises ``OSError``: a bucket has no such things."""
        raise OSError(errno.ENOTSUP, "is a link or device, which a bucket cannot hold", path)

    def open_existing(self, path: bytes) -> int | None:
        """The bytes of the object, in a file without a name."""
        key = self._key(path)
        if key is None:
            return None
        try:
            return self._fetch(key)
        except DonjonError as error:
            raise self._failure(path, error) from error

    def refresh_file(self, path: bytes, entry: Entry) -> None:
        """Objects cannot change their metadata alone: note that it differs."""
        key = self._key(path, entry)
        try:
            found = self._objects.look(key) if key is not None else None
        except DonjonError as error:
            raise self._failure(path, error) from error
        if found is not None and quiet(found[1]) != quiet(self._metadata(path, entry)):
            self._note(path, "metadata that differs from what the same bytes have there")

    def _put(self, file: NewFile) -> Outcome:
        try:
            key = self._key(file.path, file.entry)
            if key is None:
                return False
            metadata = self._metadata(file.path, file.entry)
            replace = self._overwrite is not Overwrite.NEVER
            made = self._objects.put(key, whole_bytes(file), metadata, replace=replace)
        except OSError as error:
            return error
        except IntegrityFailure as error:
            return error
        except DonjonError as error:
            failure = self._failure(file.path, error)
            if isinstance(failure, OSError):
                return failure
            raise failure from error
        self._made = True
        return made

    def _key(self, path: bytes, entry: Entry | None = None) -> str | None:
        """The key for a path; None for what belongs to the history of a bucket.

        Raises ``OSError`` for a path that no key can have.
        """
        if entry is not None and is_marker(entry):
            self._note(path, "delete marker")
            return None
        if self._whole:
            if path.startswith(_VERSIONS):
                self._note(path, "older version")
                return None
            path = path.removeprefix(_OBJECTS)
        return self._prefixed(path, key_of if self._keys else bytes)

    def _prefixed(self, path: bytes, plain: Callable[[bytes], bytes]) -> str:
        """The whole key for a path, of which ``plain`` makes that below the prefix. Raises ``OSError``."""
        try:
            key = self._objects.prefix + plain(path).decode()
        except IntegrityFailure as error:
            raise OSError(errno.EINVAL, "is the path of no key, such as that of an older version") from error
        except UnicodeDecodeError as error:
            raise OSError(errno.EILSEQ, "is no UTF-8, as keys must be", path) from error
        if not key or len(key.encode()) > MAX_KEY_BYTES:
            reason = f"would have a key of {len(key.encode())} bytes; 1 to {MAX_KEY_BYTES} are possible"
            raise OSError(errno.ENAMETOOLONG, reason, path)
        return key

    def _metadata(self, path: bytes, entry: Entry) -> Metadata:
        kept = metadata_of(entry)
        if kept is None:
            self._note(path, _OF_FILES)
            guessed, coding = mimetypes.guess_type(os.fsdecode(path), strict=False)
            plain = guessed if coding is None else None
            kept = Metadata(content_type=plain or "application/octet-stream")
        fitting, lost = self._objects.fitting(kept)
        for what in lost:
            self._note(path, what)
        return fitting

    def _note(self, path: bytes, what: str) -> None:
        with self._mutex:
            first, count = self._lost.get(what, (path, 0))
            self._lost[what] = (first, count + 1)

    def _fetch(self, key: str) -> int | None:
        """The bytes of an object in a file without a name; None if there is none."""
        found = self._objects.look(key)
        if found is None:
            return None
        listed = found[0]
        with tempfile.TemporaryFile() as file:
            for offset in range(0, listed.size_bytes, _RANGE_BYTES):
                length = min(_RANGE_BYTES, listed.size_bytes - offset)
                file.write(self._objects.read(listed, offset=offset, length=length, tags=False).data)
            file.flush()
            return os.dup(file.fileno())

    def _failure(self, path: bytes, error: DonjonError) -> Exception:
        """What to raise for an error of the bucket: for this item alone, or to end the restore."""
        if isinstance(error, (CredentialsRejected, IntegrityFailure)) or (
            isinstance(error, PermissionMissing) and not self._made
        ):
            return error
        if isinstance(error, StoreUnavailable) or (isinstance(error, StoreError) and not self._made):
            return TargetFailed(error.message, hint=error.hint)
        return OSError(errno.EIO, error.message, path)


def whole_bytes(file: NewFile) -> bytes:
    """All bytes of a small file, holes as zeros."""
    if len(file.pieces) == 1 and len(file.pieces[0][1]) == file.entry.size:
        return bytes(file.pieces[0][1])
    data = bytearray(file.entry.size)
    for offset, piece in file.pieces:
        data[offset : offset + len(piece)] = piece
    return bytes(data)
