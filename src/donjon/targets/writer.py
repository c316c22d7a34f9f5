"""Writing one restored file."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from donjon.core.errors import IntegrityFailure
from donjon.core.units import MIB
from donjon.format.entries import Entry
from donjon.targets.attributes import Attributes
from donjon.targets.base import Buffer
from donjon.targets.direct import ALIGNMENT, DirectFile
from donjon.targets.directories import Directory

#: The mode of a file between being made and being finished. No file that anybody uses has it, so a
#: later restore tells by it that an earlier one was cut off.
UNFINISHED_FILE = stat.S_ISVTX
#: Files of this size and more are written past the page cache.
_DIRECT_BYTES = 16 * MIB


def is_unfinished_file(status: os.stat_result, euid: int) -> bool:
    """Whether a file was made, but not finished, by a restore of this user."""
    mode = status.st_mode
    return (
        stat.S_ISREG(mode)
        and stat.S_IMODE(mode) == UNFINISHED_FILE
        and status.st_uid == euid
        and status.st_nlink == 1
    )


class TreeFileWriter:
    """A new file under ``name``, or under ``temporary`` until it is finished. ``fd`` belongs to it now.

    ``replace`` tells whether finishing may overwrite. ``write_at`` may be called from many threads.
    """

    __slots__ = (
        "_attributes",
        "_direct",
        "_directory",
        "_entry",
        "_fd",
        "_name",
        "_path",
        "_replace",
        "_temporary",
        "_written",
    )

    def __init__(
        self,
        attributes: Attributes,
        directory: Directory,
        fd: int,
        names: tuple[bytes, bytes | None],
        item: tuple[bytes, Entry],
        *,
        replace: bool,
    ) -> None:
        self._attributes = attributes
        self._directory = directory
        self._fd = fd
        self._name, self._temporary = names
        self._path, self._entry = item
        self._replace = replace
        self._written = 0
        self._direct: DirectFile | None = None
        if self._entry.size >= _DIRECT_BYTES:
            self._direct = DirectFile(fd, self._entry.size)

    def write_at(self, offset: int, data: Buffer) -> None:
        """Write data; what is never written stays a hole.

        Raises ``OSError``, and ``IntegrityFailure`` for more data than the entry's size.
        """
        view = memoryview(data)
        end = offset + len(view)
        if offset < 0 or end > self._entry.size:
            raise IntegrityFailure(f"{os.fsdecode(self._path)}: there is more data than the file is long")
        try:
            done = 0
            if self._direct is not None:
                done = min(-offset % ALIGNMENT, len(view))
                self._write(view[:done], offset)
                done += self._direct.write(view[done:], offset + done)
            self._write(view[done:], offset + done)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from error
        # Two threads may undo each other here; then finish() sets the size once more than needed.
        self._written = max(self._written, end)

    def _write(self, view: memoryview, offset: int) -> None:
        done = 0
        while done < len(view):
            done += os.pwrite(self._fd, view[done:], offset + done)

    def _close_direct(self) -> None:
        if self._direct is not None:
            self._direct.close()

    def finish(self) -> None:
        """Set size, owner, attributes, mode and times, and give the file its name. Raises ``OSError``."""
        self._close_direct()
        try:
            if self._written != self._entry.size:
                os.ftruncate(self._fd, self._entry.size)
            self._attributes.apply(self._fd, self._path, self._entry, clear=self._directory.inherits_acl)
            fd, self._fd = self._fd, -1
            os.close(fd)
            if self._temporary is not None:
                put_in_place(self._directory, self._temporary, self._name, replace=self._replace)
        except (OSError, OverflowError, ValueError) as error:
            self.abort()
            number = getattr(error, "errno", None) or errno.EINVAL
            raise OSError(number, getattr(error, "strerror", None) or str(error), self._path) from error

    def abort(self) -> None:
        """Throw away what was written. Never raises."""
        self._close_direct()
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            if fd >= 0:
                os.close(fd)
        with contextlib.suppress(OSError):
            os.unlink(self._temporary or self._name, dir_fd=self._directory.fd)


def put_in_place(directory: Directory, temporary: bytes, name: bytes, *, replace: bool) -> None:
    """Give something its final name. Raises ``FileExistsError`` if it may not replace what has it."""
    fd = directory.fd
    if not replace:
        _put_if_absent(fd, temporary, name)
        return
    try:
        os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
    except IsADirectoryError:
        os.rmdir(name, dir_fd=fd)  # an empty one only
        os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)


def _put_if_absent(fd: int, temporary: bytes, name: bytes) -> None:
    try:
        os.link(temporary, name, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # A file system without hard links: take the name with an empty file, and replace that.
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0, dir_fd=fd))
        os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
    else:
        os.unlink(temporary, dir_fd=fd)
