"""A file tree as the target of a restore. Nothing it is told makes it write outside of its root."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from donjon.core.errors import DonjonError
from donjon.core.tuning import small_file_turns
from donjon.format.entries import Entry, Kind
from donjon.targets.attributes import Attributes, Handle
from donjon.targets.base import NewFile, Outcome, Overwrite
from donjon.targets.directories import (
    UNFINISHED_DIRECTORY,
    Directories,
    Directory,
    is_unfinished,
    strip_inherited_acl,
)
from donjon.targets.writer import UNFINISHED_FILE, TreeFileWriter, is_unfinished_file, put_in_place

#: What the names of unfinished files begin with, where others could see them.
TEMPORARY_PREFIX = b".donjon-restore-"

_PATH_ONLY: int = getattr(os, "O_PATH", 0)
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

_FORMATS = {
    int(Kind.DIRECTORY): stat.S_IFDIR,
    int(Kind.SYMLINK): stat.S_IFLNK,
    int(Kind.FIFO): stat.S_IFIFO,
    int(Kind.SOCKET): stat.S_IFSOCK,
    int(Kind.CHARACTER_DEVICE): stat.S_IFCHR,
    int(Kind.BLOCK_DEVICE): stat.S_IFBLK,
}
_DEVICES = (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE)


class TreeTarget:
    """Restores below ``root``, which is made if needed.

    ``owner`` tells whether owners are restored, by number; by default if this is root. With
    ``Overwrite.NEVER`` what is there stays as it is, the metadata of directories included, except for
    what an earlier restore left unfinished. Otherwise files, links and the like are replaced, and so are
    empty directories; a directory never replaces a symbolic link, nor anything a directory with content.
    ``random_bytes`` makes temporary names.
    """

    def __init__(
        self,
        root: bytes | Path,
        overwrite: Overwrite,
        *,
        owner: bool | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._euid = os.geteuid()
        self._directories = Directories(os.fsencode(root), euid=self._euid)
        self._replace = overwrite is not Overwrite.NEVER
        self._attributes = Attributes(owner=self._euid == 0 if owner is None else owner)
        self._random_bytes = random_bytes
        self._turns = small_file_turns()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the directories that were kept open for speed. The target can still be used."""
        self._directories.close()

    def warnings(self) -> list[tuple[bytes, str]]:
        """(path, reason) of metadata that could not be restored; the items were."""
        return self._attributes.warnings()

    def make_directory(self, path: bytes) -> None:
        directory, name = self._directories.parent(path)
        with _naming(path):
            try:
                os.mkdir(name, UNFINISHED_DIRECTORY, dir_fd=directory.fd)
            except FileExistsError:
                if not self._make_room_for_directory(directory, name):
                    return
                os.mkdir(name, UNFINISHED_DIRECTORY, dir_fd=directory.fd)
            if directory.inherits_acl:
                strip_inherited_acl(directory, name)

    def finish_directory(self, path: bytes, entry: Entry) -> None:
        directory, name = self._directories.parent(path)
        with _naming(path), _looking(directory, name, entry) as (handle, status):
            unfinished = is_unfinished(status, self._euid)
            if unfinished or self._replace:
                self._attributes.apply(handle, path, entry, clear=not unfinished)

    def write_files(self, files: Sequence[NewFile]) -> list[Outcome]:
        with self._turns:
            return [self._write(file) for file in files]

    def _write(self, file: NewFile) -> Outcome:
        try:
            writer = self.create_file(file.path, file.entry)
            if writer is None:
                return False
            try:
                for offset, data in file.pieces:
                    writer.write_at(offset, data)
            except BaseException:
                writer.abort()
                raise
            writer.finish()
        except (OSError, DonjonError) as error:
            return error
        return True

    def create_file(self, path: bytes, entry: Entry) -> TreeFileWriter | None:
        directory, name = self._directories.parent(path)
        dir_fd = directory.fd
        try:
            if directory.is_private:
                # Nobody else sees this directory yet, so that the file can have its name at once.
                with contextlib.suppress(FileExistsError):
                    fd = os.open(name, _CREATE_FLAGS, UNFINISHED_FILE, dir_fd=dir_fd)
                    return TreeFileWriter(
                        self._attributes, directory, fd, (name, None), (path, entry), replace=False
                    )
            replace = self._replace
            if not replace and (status := _lstat(directory, name)) is not None:
                if not is_unfinished_file(status, self._euid):
                    return None
                replace = True
            temporary = self._temporary()
            fd = os.open(temporary, _CREATE_FLAGS, UNFINISHED_FILE, dir_fd=dir_fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error
        names, item = (name, temporary), (path, entry)
        return TreeFileWriter(self._attributes, directory, fd, names, item, replace=replace)

    def make_link(self, path: bytes, existing: bytes) -> bool:
        source, old = self._directories.parent(existing)
        directory, name = self._directories.parent(path)

        def link(new: bytes) -> None:
            os.link(old, new, src_dir_fd=source.fd, dst_dir_fd=directory.fd, follow_symlinks=False)

        with _naming(path):
            there = _lstat(directory, name)
            if there is not None and os.path.samestat(there, os.lstat(old, dir_fd=source.fd)):
                return False
            return self._make(directory, name, link) is not None

    def make_special(self, path: bytes, entry: Entry) -> bool:
        directory, name = self._directories.parent(path)
        if entry.kind not in _FORMATS or entry.kind == Kind.DIRECTORY:
            raise OSError(errno.EINVAL, f"an item of kind {entry.kind} cannot be made", path)
        mode = _FORMATS[entry.kind] | 0o600
        device = entry.rdev if entry.kind in _DEVICES else 0

        def special(new: bytes) -> None:
            if entry.kind == Kind.SYMLINK:
                os.symlink(entry.target, new, dir_fd=directory.fd)
            else:
                os.mknod(new, mode, device, dir_fd=directory.fd)

        def finish(new: bytes) -> None:
            with _looking(directory, new, entry) as (handle, _):
                self._attributes.apply(handle, path, entry, clear=directory.inherits_acl)

        with _naming(path):
            return self._make(directory, name, special, finish) is not None

    def open_existing(self, path: bytes) -> int | None:
        try:
            directory, name = self._directories.parent(path)
        except FileNotFoundError:
            return None
        with _naming(path):
            status = _lstat(directory, name)
            if status is None or not stat.S_ISREG(status.st_mode):
                return None
            fd = os.open(name, _READ_FLAGS, dir_fd=directory.fd)
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return fd
            os.close(fd)
            return None

    def refresh_file(self, path: bytes, entry: Entry) -> None:
        directory, name = self._directories.parent(path)
        with _naming(path), _looking(directory, name, entry) as (handle, status):
            if status.st_nlink > max(1, entry.links) and status.st_uid != entry.uid:
                # Planted to be given away: its other names may lie outside of the root.
                raise OSError(errno.EPERM, "has more names than it had, and another owner; not touched")
            self._attributes.apply(handle, path, entry, clear=True)

    def _make_room_for_directory(self, directory: Directory, name: bytes) -> bool:
        """Whether a directory has to be made after all, now that what was there is gone."""
        status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            return False
        if not self._replace or stat.S_ISLNK(status.st_mode):
            raise OSError(errno.ENOTDIR, "is in the way: it is no directory, and links are not followed")
        os.unlink(name, dir_fd=directory.fd)
        return True

    def _make(
        self,
        directory: Directory,
        name: bytes,
        make: Callable[[bytes], None],
        finish: Callable[[bytes], None] = lambda _: None,
    ) -> bytes | None:
        """Make something that appears at once, under its name or, to replace, under another first."""
        try:
            make(name)
        except FileExistsError:
            if not self._replace:
                return None
        else:
            finish(name)
            return name
        temporary = self._temporary()
        make(temporary)
        try:
            finish(temporary)
            put_in_place(directory, temporary, name, replace=True)
        finally:
            # Also after a rename between two names of one file, which does nothing: rename(2).
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory.fd)
        return name

    def _temporary(self) -> bytes:
        return TEMPORARY_PREFIX + self._random_bytes(8).hex().encode()


@contextlib.contextmanager
def _naming(path: bytes) -> Iterator[None]:
    """Let errors name the whole path, not only the last component that the system call had."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), path) from error
    except (OverflowError, ValueError) as error:
        raise OSError(errno.EINVAL, str(error), path) from error


def _lstat(directory: Directory, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _looking(directory: Directory, name: bytes, entry: Entry) -> Iterator[tuple[Handle, os.stat_result]]:
    """A handle for the metadata of what is there, without opening or following it.

    Raises ``OSError`` if it is not of the entry's kind.
    """
    flags = _PATH_ONLY or os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_SYMLINK", 0)
    if not getattr(os, "O_SYMLINK", 0):
        flags |= os.O_NOFOLLOW
    fd = os.open(name, flags | os.O_CLOEXEC, dir_fd=directory.fd)
    try:
        status = os.fstat(fd)
        if stat.S_IFMT(status.st_mode) != _FORMATS.get(entry.kind, stat.S_IFREG):
            raise OSError(errno.EEXIST, "is something else than what was restored")
        yield (b"/proc/self/fd/%d" % fd if _PATH_ONLY else fd), status
    finally:
        os.close(fd)
