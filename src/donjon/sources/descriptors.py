"""Opening things by descriptors, so that a path swapped for a symbolic link leads nowhere.

A path is only a hint where to look: what was opened is compared with what the walk saw by device and
inode number, and is refused when they differ. Paths may be longer than the kernel takes in one call.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

#: The longest path, the closing NUL included, that one system call takes (``PATH_MAX``).
PATH_LIMIT = 4096 if sys.platform == "linux" else 1024

_NO_ATIME: int = getattr(os, "O_NOATIME", 0)
_PATH_ONLY: int = getattr(os, "O_PATH", 0)

#: For directories that are listed.
LIST_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: For directories that are only passed through; asks for no right to read them where the system can.
PASS_FLAGS = (_PATH_ONLY or os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
#: For content. Without O_NONBLOCK a fifo put in the place of a file would hang the backup.
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
#: For the metadata of anything: opens no device and no fifo. 0 where the system has no such thing.
LOOK_FLAGS = (_PATH_ONLY | os.O_NOFOLLOW | os.O_CLOEXEC) if _PATH_ONLY else 0


def no_atime(owner: int, euid: int) -> int:
    """The flag that leaves the access time alone, if a process of user ``euid`` may ask for it."""
    return _NO_ATIME if euid in (0, owner) else 0


def open_any(path: bytes, flags: int, dir_fd: int | None = None) -> int:
    """Open a path of any length, in pieces if need be. Raises ``OSError``.

    Only the last component is protected by ``O_NOFOLLOW``; compare what was opened (``is_same``).
    """
    if len(path) < PATH_LIMIT:
        return os.open(path, flags, dir_fd=dir_fd)
    at = os.open(b"/", PASS_FLAGS)
    try:
        rest = path.lstrip(b"/")
        while len(rest) >= PATH_LIMIT:
            cut = rest.rindex(b"/", 0, PATH_LIMIT)
            step = os.open(rest[:cut], PASS_FLAGS, dir_fd=at)
            os.close(at)
            at = step
            rest = rest[cut + 1 :]
        return os.open(rest, flags, dir_fd=at)
    finally:
        os.close(at)


def open_quietly(path: bytes, flags: int, quiet: int, dir_fd: int | None = None) -> int:
    """``open_any`` with the flag of ``no_atime``, and without it where the system refuses it."""
    try:
        return open_any(path, flags | quiet, dir_fd)
    except PermissionError as error:
        if not quiet or error.errno != errno.EPERM:
            raise
        return open_any(path, flags, dir_fd)
    except BlockingIOError:
        # A lease (fcntl(2), F_SETLEASE), as file servers take them: wait until its holder gives it up.
        return open_any(path, flags & ~os.O_NONBLOCK, dir_fd)


def is_same(found: os.stat_result, seen: os.stat_result) -> bool:
    """Whether two looks saw the same file, directory or other item, changed or not."""
    return found.st_ino == seen.st_ino and found.st_dev == seen.st_dev


def replaced(path: bytes) -> OSError:
    """The error for a path that leads to something else than before."""
    return OSError(errno.ESTALE, "was replaced by something else while it was backed up", path)


def open_seen(path: bytes, flags: int, seen: os.stat_result, quiet: int = 0) -> tuple[int, os.stat_result]:
    """Open what the walk saw at an absolute path; its descriptor and its status now.

    Raises ``OSError``, also when the path leads to something else by now.
    """
    fd = open_quietly(path, flags, quiet)
    try:
        found = os.fstat(fd)
        if not is_same(found, seen) or stat.S_IFMT(found.st_mode) != stat.S_IFMT(seen.st_mode):
            raise replaced(path)
    except BaseException:
        os.close(fd)
        raise
    return fd, found


def lstat_any(path: bytes) -> os.stat_result:
    """``os.lstat`` for absolute paths of any length. Raises ``OSError``."""
    if len(path) < PATH_LIMIT:
        return os.lstat(path)
    head, _, name = path.rstrip(b"/").rpartition(b"/")
    at = open_any(head, PASS_FLAGS)
    try:
        return os.stat(name, dir_fd=at, follow_symlinks=False)
    finally:
        os.close(at)
