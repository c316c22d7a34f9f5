"""One item of a file tree, as the walk saw it."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable

import msgspec

from donjon.format.entries import MAX_XATTR_BYTES, Entry, Kind
from donjon.sources.content import FileContent
from donjon.sources.descriptors import (
    LOOK_FLAGS,
    PASS_FLAGS,
    PATH_LIMIT,
    READ_FLAGS,
    no_atime,
    open_seen,
    replaced,
)

NS_PER_S = 1_000_000_000

_KINDS: dict[int, int] = {
    stat.S_IFREG: int(Kind.FILE),
    stat.S_IFDIR: int(Kind.DIRECTORY),
    stat.S_IFLNK: int(Kind.SYMLINK),
    stat.S_IFIFO: int(Kind.FIFO),
    stat.S_IFSOCK: int(Kind.SOCKET),
    stat.S_IFCHR: int(Kind.CHARACTER_DEVICE),
    stat.S_IFBLK: int(Kind.BLOCK_DEVICE),
}
_FORMATS = {kind: file_format for file_format, kind in _KINDS.items()}
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)

Xattrs = tuple[tuple[bytes, bytes], ...]


class Context:
    """What the items of one walk share: the cached names of users and groups, and the problems."""

    __slots__ = ("_groups", "_users", "euid", "problems")

    def __init__(self) -> None:
        self.euid = os.geteuid()
        self.problems: list[tuple[bytes, str]] = []
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}

    def user(self, uid: int) -> str:
        """The name of a user, or an empty text."""
        name = self._users.get(uid)
        if name is None:
            name = self._users[uid] = _name_or_nothing(lambda: pwd.getpwuid(uid).pw_name)
        return name

    def group(self, gid: int) -> str:
        """The name of a group, or an empty text."""
        name = self._groups.get(gid)
        if name is None:
            name = self._groups[gid] = _name_or_nothing(lambda: grp.getgrgid(gid).gr_name)
        return name


def _name_or_nothing(look_up: Callable[[], str]) -> str:
    try:
        name = look_up()
        name.encode()  # what is not UTF-8 in the system's tables could not be stored
    except (KeyError, OSError, OverflowError, UnicodeEncodeError):
        return ""
    return name


class Folder:
    """A directory of the walk, ``seen`` there, for finding what is in it again later.

    ``moved`` is the folder that what is shown here is read from, if that is another one, such as a snapshot;
    it holds for all below.
    """

    __slots__ = ("context", "known_prefix", "moved", "name", "parent", "seen")

    def __init__(
        self,
        context: Context,
        parent: Folder | None,
        name: bytes,
        seen: os.stat_result,
        moved: bytes | None = None,
    ) -> None:
        self.context = context
        self.parent = parent
        self.name = name
        self.seen = seen
        # Kept only while short: the prefixes of a very deep tree would add up to its depth squared.
        self.known_prefix: bytes | None = None
        if parent is None:
            self.known_prefix = b"/"
        elif parent.known_prefix is not None and len(parent.known_prefix) + len(name) < PATH_LIMIT:
            self.known_prefix = parent.known_prefix + name + b"/"
        #: The shown and the real prefix, where they differ.
        self.moved: tuple[bytes, bytes] | None = parent.moved if parent is not None else None
        if moved is not None:
            self.moved = self.prefix, moved.rstrip(b"/") + b"/"

    @property
    def place(self) -> bytes:
        """The absolute path that it is read from, a slash at its end."""
        if self.moved is None:
            return self.prefix
        shown, real = self.moved
        return real + self.prefix[len(shown) :]

    @property
    def prefix(self) -> bytes:
        """The absolute path that is shown, a slash at its end."""
        if self.known_prefix is not None:
            return self.known_prefix
        names: list[bytes] = [b""]
        folder = self
        while folder.known_prefix is None and folder.parent is not None:
            names.append(folder.name)
            folder = folder.parent
        return (folder.known_prefix or b"/") + b"/".join(reversed(names))


class TreeItem(msgspec.Struct, gc=False, eq=False):
    """An ``Item`` of a file tree. ``status`` is what the walk saw; nothing else was read so far.

    ``moved`` is where it is read from, if not from its folder.
    """

    depth: int
    name: bytes
    is_file: bool
    folder: Folder
    status: os.stat_result
    moved: bytes | None = None

    @property
    def path(self) -> bytes:
        """The absolute path."""
        return self.folder.prefix + self.name

    @property
    def place(self) -> bytes:
        """The absolute path that it is read from."""
        return self.moved or self.folder.place + self.name

    @property
    def size(self) -> int:
        """Bytes of content; 0 for everything but files."""
        return self.status.st_size if self.is_file else 0

    @property
    def link_group(self) -> tuple[int, int] | None:
        """(device, inode) of an item with several names; None for directories, which cannot have them."""
        status = self.status
        if status.st_nlink <= 1 or stat.S_ISDIR(status.st_mode):
            return None
        return status.st_dev, status.st_ino

    def same_as(self, previous: Entry) -> bool:
        """Whether kind, mode, owner, size, times and inode are those of ``previous``.

        Device numbers change when disks are found in another order at the next start, so they do not
        count; but hard links are told by them, so they do for an item with several names.
        """
        status = self.status
        return (
            status.st_ctime_ns == previous.ctime_s * NS_PER_S + previous.ctime_ns
            and status.st_ino == previous.inode
            and status.st_mtime_ns == previous.mtime_s * NS_PER_S + previous.mtime_ns
            and status.st_mode == previous.mode | _FORMATS.get(previous.kind, 0)
            and status.st_uid == previous.uid
            and status.st_gid == previous.gid
            and (not self.is_file or status.st_size == previous.size)
            and (previous.links == 1 or status.st_dev == previous.device)
        )

    def describe(self) -> Entry:
        """All metadata: of the walk, with the names of the owners, the link target and the attributes.

        Raises ``OSError``.
        """
        status, context = self.status, self.folder.context
        file_format = stat.S_IFMT(status.st_mode)
        kind = _KINDS.get(file_format)
        if kind is None:
            raise OSError(errno.EINVAL, "is of a kind that Donjon does not know", self.path)
        target, xattrs = self._look(file_format == stat.S_IFLNK)
        mtime_s, mtime_ns = divmod(status.st_mtime_ns, NS_PER_S)
        ctime_s, ctime_ns = divmod(status.st_ctime_ns, NS_PER_S)
        return Entry(
            depth=self.depth,
            name=self.name,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            user=context.user(status.st_uid),
            group=context.group(status.st_gid),
            mtime_s=mtime_s,
            mtime_ns=mtime_ns,
            ctime_s=ctime_s,
            ctime_ns=ctime_ns,
            device=status.st_dev,
            inode=status.st_ino,
            links=1 if file_format == stat.S_IFDIR else status.st_nlink,
            size=self.size,
            target=target,
            rdev=status.st_rdev if file_format in _DEVICES else 0,
            xattrs=xattrs,
        )

    def open(self) -> FileContent:
        """Open the content. Raises ``OSError``; ``FileNotFoundError`` if the file vanished.

        A file that was replaced by another one since the walk, as editors do it, is looked at again.
        """
        if not self.is_file:
            raise OSError(errno.EINVAL, "is not a regular file", self.path)
        quiet = no_atime(self.status.st_uid, self.folder.context.euid)
        try:
            fd, opened = open_seen(self.place, READ_FLAGS, self.status, quiet)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            self.refresh()
            fd, opened = open_seen(self.place, READ_FLAGS, self.status, quiet)
        try:
            return FileContent(fd, self.status, opened)
        except BaseException:
            os.close(fd)
            raise

    def refresh(self) -> None:
        """Look again, in the very directory of the walk. Raises ``OSError``, also if it is no file now."""
        folder = self.folder
        above = folder.place.rstrip(b"/") or b"/"
        fd, _ = open_seen(above, PASS_FLAGS | os.O_NOFOLLOW, folder.seen)
        try:
            status = os.stat(self.name, dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(fd)
        if stat.S_ISREG(status.st_mode) != self.is_file:
            raise replaced(self.path)
        self.status = status

    def _look(self, is_link: bool) -> tuple[bytes, Xattrs]:
        """The target of a link, and the extended attributes."""
        path = self.place
        if not LOOK_FLAGS:
            return (os.readlink(path) if is_link else b""), self._read_xattrs(path, path)
        if not is_link and len(path) < PATH_LIMIT and not _list_xattrs(path):
            return b"", ()  # nearly always; the careful way below costs several times as much
        fd, _ = open_seen(path, LOOK_FLAGS, self.status)
        try:
            target = os.readlink(b"", dir_fd=fd) if is_link else b""
            # The link of an O_PATH descriptor leads to the thing itself, even if that is a link.
            return target, self._read_xattrs(b"/proc/self/fd/%d" % fd, path)
        finally:
            os.close(fd)

    def _read_xattrs(self, place: bytes, path: bytes) -> Xattrs:
        follow = place is not path
        pairs: list[tuple[bytes, bytes]] = []
        room = MAX_XATTR_BYTES
        for name in _list_xattrs(place, follow=follow):
            try:
                value = os.getxattr(place, name, follow_symlinks=follow)
            except OSError as error:
                if error.errno != errno.ENODATA:  # else it was removed in between
                    self.folder.context.problems.append((self.path, f"attribute {name}: {error.strerror}"))
                continue
            room -= len(name) + len(value) + 16
            if room < 0:  # an unprivileged user must not make entries that no reader takes
                self.folder.context.problems.append((self.path, f"attribute {name}: too large, left out"))
                room += len(name) + len(value) + 16
                continue
            pairs.append((os.fsencode(name), value))
        pairs.sort()
        return tuple(pairs)


def _list_xattrs(path: bytes, *, follow: bool = False) -> list[str]:
    if not hasattr(os, "listxattr"):
        return []
    try:
        return os.listxattr(path, follow_symlinks=follow)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EOPNOTSUPP):
            return []
        raise
