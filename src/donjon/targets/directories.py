"""Finding the directory of a path below a root without ever leaving it.

Every component is opened relative to the one before it and never followed if it is a link. What is open
stays what it is, whatever somebody renames or plants meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from threading import get_ident

from donjon.core.errors import Refused, UsageError

_PATH_ONLY: int = getattr(os, "O_PATH", 0)
_PASS_FLAGS = (_PATH_ONLY or os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC

#: The mode of a directory between being made and being finished: private, with a sticky bit that marks
#: it. A later restore tells by it that an earlier one was cut off.
UNFINISHED_DIRECTORY = stat.S_ISVTX | stat.S_IRWXU

DEFAULT_ACL = b"system.posix_acl_default"

_REMEMBERED = 4  # descriptors a thread: the directory in use, some above it, and that of a link's other end


def is_unfinished(status: os.stat_result, euid: int) -> bool:
    """Whether a directory was made, but not finished, by a restore of this user."""
    return stat.S_IMODE(status.st_mode) & ~stat.S_ISGID == UNFINISHED_DIRECTORY and status.st_uid == euid


def split(path: bytes) -> tuple[bytes, bytes]:
    """The directory (empty for the root) and the name. Raises ``Refused`` for a name that is none."""
    head, _, name = path.rpartition(b"/")
    if name in (b"", b".", b"..") or b"\0" in name:
        raise _unsafe(path)
    return head, name


def _unsafe(path: bytes) -> Refused:
    return Refused(f"{os.fsdecode(path)!r} is not a path below the target, so it was not restored")


class Directory:
    """An open directory, closed when nothing refers to it any more."""

    __slots__ = ("fd", "inherits_acl", "is_private")

    def __init__(self, fd: int, *, euid: int) -> None:
        self.fd = fd
        #: Whether nobody else can be in it, because it is being restored.
        self.is_private = is_unfinished(os.fstat(fd), euid)
        #: Whether what is made in it gets an ACL unasked.
        self.inherits_acl = not self.is_private and _has_default_acl(fd)

    def __del__(self) -> None:
        os.close(self.fd)


class Directories:
    """The directories below ``root``, which is made if it is not there. Used from many threads.

    Raises ``UsageError`` if the root cannot be used.
    """

    def __init__(self, root: bytes, *, euid: int) -> None:
        self._euid = euid
        try:
            os.makedirs(root, exist_ok=True)
            self._root = Directory(os.open(root, _PASS_FLAGS), euid=euid)
        except OSError as error:
            raise UsageError(f"cannot restore to {os.fsdecode(root)}: {error.strerror}") from error
        self._recent: dict[int, list[tuple[bytes, Directory]]] = {}

    @property
    def root_fd(self) -> int:
        """The descriptor of the root, which is open for as long as this is."""
        return self._root.fd

    def close(self) -> None:
        """Forget every directory but the root; those in use are closed when their users are done."""
        self._recent.clear()

    def parent(self, path: bytes) -> tuple[Directory, bytes]:
        """The directory that ``path`` is in, and its name there.

        Raises ``Refused`` for a path that might lead out of the root, and ``OSError`` where a directory
        is missing or something else is in its place.
        """
        head, name = split(path)
        if not head:
            if path[:1] == b"/":
                raise _unsafe(path)
            return self._root, name
        recent = self._recent.get(get_ident())
        if recent and recent[-1][0] == head:
            return recent[-1][1], name
        return self._open(head), name

    def _open(self, path: bytes) -> Directory:
        recent = self._recent.setdefault(get_ident(), [])
        start, directory = b"", self._root
        for index, (known, opened) in enumerate(recent):
            if known == path:
                recent.append(recent.pop(index))
                return opened
            if len(known) > len(start) and path.startswith(known + b"/"):
                start, directory = known, opened
        steps = path[len(start) + 1 :] if start else path
        directory = self._descend(directory, start, steps)
        recent.append((path, directory))
        if len(recent) > _REMEMBERED:
            del recent[0]
        return directory

    def _descend(self, directory: Directory, start: bytes, steps: bytes) -> Directory:
        at = start
        for name in steps.split(b"/"):
            at = at + b"/" + name if at else name
            if name in (b"", b".", b"..") or b"\0" in name:
                raise _unsafe(at)
            directory = Directory(self._open_step(directory.fd, name, at), euid=self._euid)
        return directory

    @staticmethod
    def _open_step(dir_fd: int, name: bytes, path: bytes) -> int:
        try:
            return os.open(name, _PASS_FLAGS | os.O_NOFOLLOW, dir_fd=dir_fd)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                reason = "is in the way: it is no directory, and links are not followed"
                raise OSError(errno.ENOTDIR, reason, path) from error
            raise OSError(error.errno, error.strerror, path) from error


def _has_default_acl(fd: int) -> bool:
    if not hasattr(os, "getxattr"):
        return False
    try:
        os.getxattr(b"/proc/self/fd/%d" % fd, DEFAULT_ACL)
    except OSError:
        return False
    return True


def strip_inherited_acl(directory: Directory, name: bytes) -> None:
    """Take away what a directory just made inherited from the default ACL above it."""
    path = b"/proc/self/fd/%d/" % directory.fd + name
    for attribute in (DEFAULT_ACL, b"system.posix_acl_access"):
        try:
            os.removexattr(path, attribute, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
