"""A volume as a new image file, or on a block device that is there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import struct
from collections.abc import Iterator

from donjon.core.errors import PermissionMissing, Refused, StoreFull, TargetFailed, UsageError
from donjon.core.units import KIB, MIB
from donjon.targets.base import Buffer
from donjon.targets.direct import ALIGNMENT, DirectFile

#: ``BLKZEROOUT`` of linux/fs.h: _IO(0x12, 127), with offset and length.
_BLKZEROOUT = 0x127F
_ENDS_BYTES = 4 * MIB
_ZEROS = bytes(MIB)
_SAMPLES = 64
_SAMPLE_BYTES = 64 * KIB


class ImageTarget:
    """Writes to ``path``. What is there is replaced with ``overwrite`` only.

    A device that is in use is always refused. An image file gets its name when it is whole.
    """

    unit_bytes = ALIGNMENT
    parallel = 1

    def __init__(self, path: str, *, overwrite: bool) -> None:
        self._path = path
        self._overwrite = overwrite
        self._temporary = ""
        self._fd = -1
        self._size = 0
        self._device_bytes = 0
        self._direct: DirectFile | None = None

    def begin(self, size: int) -> None:
        """Open or make it. Raises ``Refused``, ``UsageError`` and ``PermissionMissing``."""
        self._size = size
        try:
            status = self._look()
            if status is not None and stat.S_ISBLK(status.st_mode):
                self._open_device(size)
            else:
                self._make_file(status, size)
        except PermissionError as error:
            msg = f"{self._path}: may not be written"
            raise PermissionMissing(msg, hint="Writing a device needs root.") from error
        except OSError as error:
            msg = f"{self._path}: {error.strerror}"
            raise UsageError(msg, hint="Name a block device, or a file in a folder that is there.") from error
        self._direct = DirectFile(self._fd, size)

    def write_at(self, offset: int, data: Buffer) -> None:
        """Write data. Raises ``StoreFull`` and ``TargetFailed``."""
        view = memoryview(data)
        try:
            done = self._direct.write(view, offset) if self._direct else 0
            while done < len(view):
                done += os.pwrite(self._fd, view[done:], offset + done)
        except OSError as error:
            raise self._failed(error, offset) from error

    def clear(self, offset: int, length: int) -> None:
        """Zeros on a device; in a file, which is new, there are none but these."""
        if not self._device_bytes:
            return
        end = offset + length
        try:
            with contextlib.suppress(OSError):
                whole = (end - offset) // ALIGNMENT * ALIGNMENT
                if whole:
                    fcntl.ioctl(self._fd, _BLKZEROOUT, struct.pack("QQ", offset, whole))
                    offset += whole
            zeros = memoryview(_ZEROS)
            while offset < end:
                offset += os.pwrite(self._fd, zeros[: min(MIB, end - offset)], offset)
        except OSError as error:
            raise self._failed(error, offset) from error

    def finish(self) -> None:
        """Bring everything to the disk, and give a file its name."""
        try:
            self._close_direct()
            os.fsync(self._fd)
            if self._temporary:
                if self._overwrite:
                    os.replace(self._temporary, self._path)
                else:
                    os.link(self._temporary, self._path)  # fails if somebody else has made it meanwhile
                    os.unlink(self._temporary)
                self._temporary = ""
            if hasattr(os, "posix_fadvise"):  # so that what is read back comes from the disk
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise self._failed(error, 0) from error

    def abort(self) -> None:
        """Remove an unfinished file. A device stays half written."""
        self.close()
        if self._temporary:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)
            self._temporary = ""

    def read_at(self, offset: int, length: int) -> bytes | memoryview:
        """What is there. Raises ``TargetFailed``."""
        data = bytearray(length)
        done = 0
        view = memoryview(data)
        try:
            while done < length:
                count = os.preadv(self._fd, [view[done:]], offset + done)
                if not count:
                    break
                done += count
        except OSError as error:
            raise self._failed(error, offset) from error
        return view[:done]

    def is_zero(self, offset: int, length: int) -> bool:
        """Whether it does; what the file system has no data for is not even read."""
        end = offset + length
        while offset < end:
            offset = max(offset, self._next_data(offset))
            if offset >= end:
                return True
            size = min(end - offset, MIB)
            piece = self.read_at(offset, size)
            if len(piece) != size or piece != _ZEROS[:size]:
                return False
            offset += size
        return True

    def close(self) -> None:
        """Close it."""
        self._close_direct()
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            if fd >= 0:
                os.close(fd)

    def made(self) -> tuple[str, list[str]]:
        """The path, and what a larger device still holds behind the volume."""
        notes = []
        if self._device_bytes > self._size:
            rest = self._device_bytes - self._size
            notes.append(f"{self._path}: the last {rest} bytes of the device are as they were")
        return self._path, notes

    def _next_data(self, offset: int) -> int:
        """Where a file system has data next; a device may have some anywhere.

        Other threads move the offset of the file as well; nobody relies on it.
        """
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA)
        except OSError as error:
            return self._size if error.errno == errno.ENXIO else offset

    # -- opening -----------------------------------------------------------------------------------

    def _look(self) -> os.stat_result | None:
        try:
            return os.stat(self._path)
        except FileNotFoundError:
            return None

    def _open_device(self, size: int) -> None:
        try:
            # With O_EXCL the kernel refuses a device that is mounted or part of something; see open(2).
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_EXCL)
        except OSError as error:
            if isinstance(error, PermissionError):
                raise
            msg = f"{self._path}: cannot be opened for writing: {error.strerror}"
            raise Refused(msg, hint="Unmount it, and take it out of RAID, LVM and the like.") from error
        there = os.lseek(self._fd, 0, os.SEEK_END)
        if there < size:
            self.close()
            msg = f"{self._path}: has {there} bytes, and the volume {size}"
            raise Refused(msg, hint="Restore it to a larger device, or to an image file.")
        if not self._overwrite and not _seems_empty(self._fd, there):
            self.close()
            msg = f"{self._path}: is not empty"
            raise Refused(msg, hint="--overwrite always replaces what is on it.")
        self._device_bytes = there

    def _make_file(self, status: os.stat_result | None, size: int) -> None:
        if status is not None:
            if not stat.S_ISREG(status.st_mode):
                msg = f"{self._path}: is neither a block device nor a regular file"
                raise UsageError(msg, hint="Name a block device or an image file.")
            if not self._overwrite:
                msg = f"{self._path}: is there already"
                raise Refused(msg, hint="--overwrite always replaces it; or choose another name.")
        folder, name = os.path.split(os.path.abspath(self._path))
        temporary = os.path.join(folder, f".{name}.{secrets.token_hex(6)}")
        self._fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._temporary = temporary
        os.ftruncate(self._fd, size)

    def _close_direct(self) -> None:
        direct, self._direct = self._direct, None
        if direct is not None:
            direct.close()

    def _failed(self, error: OSError, offset: int) -> StoreFull | TargetFailed:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StoreFull(f"{self._path}: no room left", hint="Make room, and restore it again.")
        msg = f"{self._path}: cannot be used at offset {offset}: {error.strerror}"
        return TargetFailed(msg, hint="Look at the disk, and restore to another one.")


def _seems_empty(fd: int, size: int) -> bool:
    """Whether both ends, where partitions and file systems begin, and samples between read as zeros."""
    for offset, length in _places(size):
        data = os.pread(fd, length, offset)
        if data.count(0) != len(data):
            return False
    return True


def _places(size: int) -> Iterator[tuple[int, int]]:
    yield 0, _ENDS_BYTES
    yield max(size - _ENDS_BYTES, 0), _ENDS_BYTES
    for number in range(1, _SAMPLES):
        yield size * number // _SAMPLES, _SAMPLE_BYTES
