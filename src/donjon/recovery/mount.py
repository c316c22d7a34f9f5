"""A read-only file system over recovery points, through FUSE.

Everything that it shows is immutable, so the kernel may keep what it was told. Damaged parts read as
input/output errors and are reported; wrong data is never shown.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from donjon.codec.digest import digest
from donjon.core.errors import DonjonError, Refused, UsageError
from donjon.format.entries import OWN_ATTRIBUTES, Kind
from donjon.recovery.mount_places import Place, Places
from donjon.recovery.ranges import ChunkCache, FileRanges
from donjon.recovery.readahead import ReadAhead

_FORMATS: dict[int, int] = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
}
_FOREVER_S = 86_400
_THREADS = 8
_BLOCK_BYTES = 4096
_NS_PER_S = 1_000_000_000

Warn = Callable[[str], None]


class MountOperations:
    """The calls of FUSE, with paths as mfusepy gives them: text with escaped bytes. From many threads.

    Directories have one link, which tells programs that subdirectories are not counted.
    """

    use_ns = True

    def __init__(self, places: Places, warn: Warn, *, size_bytes: int, items: int) -> None:
        """``size_bytes`` and ``items`` are what ``df`` is told."""
        self._places = places
        self._warn = warn
        self._total = size_bytes, items
        self._cache = ChunkCache()
        self._ahead = ReadAhead(self._cache)
        self._numbers = itertools.count(1)
        self._open: dict[int, FileRanges] = {}
        self.mounted = False
        self.on_ready: Callable[[], None] = lambda: None

    def init(self, path: str) -> None:
        """The mount is there."""
        self.mounted = True
        self.on_ready()

    def destroy(self, path: str) -> None:
        """The mount is gone."""
        self._ahead.close()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        """The members of ``struct stat``."""
        return attributes(self._find(path), _bytes(path))

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, dict[str, int], int]]:
        """(name, mode and inode, 0) of all items."""
        yield ".", {}, 0
        yield "..", {}, 0
        above = _bytes(path)
        with self._reporting(path):
            for name, place in self._places.children(above):
                mode = _FORMATS[place.entry.kind] | place.entry.mode
                inode = inode_of(place, above + b"/" + name if above else name)
                yield _text(name), {"st_mode": mode, "st_ino": inode}, 0

    def readlink(self, path: str) -> str:
        """The target of a link."""
        place = self._find(path)
        if place.entry.kind != Kind.SYMLINK:
            raise OSError(errno.EINVAL, "not a link")
        return _text(place.entry.target)

    def open(self, path: str, flags: int) -> int:
        """A number for the open file."""
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, "a recovery point cannot be changed")
        place = self._find(path)
        if place.view is None or place.entry.kind != Kind.FILE:
            raise OSError(errno.EISDIR, "not a file")
        with self._reporting(path):
            file = FileRanges(place.view, place.entry, self._cache)
            self._ahead.opened(place.view, place.path)
        number = next(self._numbers)
        self._open[number] = file
        return number

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Bytes of an open file."""
        file = self._open[fh]
        with self._reporting(path):
            data = file.read(offset, size)
            self._ahead.has_read(file, offset, len(data))
            return data

    def release(self, path: str, fh: int) -> int:
        """The file is closed."""
        self._open.pop(fh, None)
        return 0

    def listxattr(self, path: str) -> list[str]:
        """The names of the extended attributes."""
        attributes = self._find(path).entry.xattrs
        return [_text(name) for name, _ in attributes if not name.startswith(OWN_ATTRIBUTES)]

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        """One extended attribute."""
        wanted = _name_bytes(name)
        for known, value in self._find(path).entry.xattrs:
            if known == wanted:
                return value
        raise OSError(errno.ENODATA, "no such attribute")

    def statfs(self, path: str) -> dict[str, int]:
        """The members of ``struct statvfs``: full, as nothing can be added."""
        size_bytes, items = self._total
        return {
            "f_bsize": _BLOCK_BYTES,
            "f_frsize": _BLOCK_BYTES,
            "f_blocks": -(-size_bytes // _BLOCK_BYTES),
            "f_files": items,
            "f_namemax": 255,
        }

    def _find(self, path: str) -> Place:
        with self._reporting(path):
            place = self._places.find(_bytes(path))
        if place is None:
            raise OSError(errno.ENOENT, "not there")
        return place

    @contextmanager
    def _reporting(self, path: str) -> Iterator[None]:
        try:
            yield
        except DonjonError as error:
            self._warn(f"{path}: {error.message}")
            raise OSError(errno.EIO, error.message) from error


def attributes(place: Place, path: bytes) -> dict[str, int]:
    """The members of ``struct stat`` for an item at this path of the mount."""
    entry = place.entry
    mtime = entry.mtime_s * _NS_PER_S + entry.mtime_ns
    size = len(entry.target) if entry.kind == Kind.SYMLINK else entry.size
    stored = size if entry.extents is None else sum(length for _, length in entry.extents)
    return {
        "st_ino": inode_of(place, path),
        "st_mode": _FORMATS[entry.kind] | entry.mode,
        "st_nlink": max(entry.links, 1),
        "st_uid": entry.uid,
        "st_gid": entry.gid,
        "st_rdev": entry.rdev,
        "st_size": size,
        "st_blocks": -(-stored // 512) if entry.kind == Kind.FILE else 0,
        "st_blksize": 131_072,
        "st_atime": mtime,
        "st_mtime": mtime,
        "st_ctime": entry.ctime_s * _NS_PER_S + entry.ctime_ns,
    }


def inode_of(place: Place, path: bytes) -> int:
    """A number that hard links of one point share, and nothing else.

    Those of the source would not do: a point may span file systems, each with a root of number 2.
    """
    entry = place.entry
    if entry.links > 1 and place.view is not None:
        path = b"%s/%d/%d" % (place.view.point.point_id, entry.device, entry.inode)
    return int.from_bytes(digest(path)[:8], "little") or 1


def check_mountpoint(folder: str) -> None:
    """Raises ``UsageError`` for a folder that is not there, ``Refused`` for one with something in it."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        msg = f"{folder}: {error.strerror}"
        raise UsageError(msg, hint="Make the folder first; it has to be empty.") from error
    if names:
        msg = f"{folder}: is not empty"
        raise Refused(msg, hint="Name an empty folder: a mount would hide what is in it.")


def serve(operations: MountOperations, folder: str, *, allow_other: bool = False) -> None:
    """Mount, and return once it was unmounted or interrupted. Raises ``DonjonError``.

    With ``allow_other`` the kernel checks the permissions that the files had, as other users may look.
    """
    try:
        import mfusepy
    except (ImportError, OSError) as error:
        msg = f"mounting needs FUSE, which is not at hand: {error}"
        raise DonjonError(msg, hint="Install the system's fuse3 and `pip install donjon[mount]`.") from error
    options: dict[str, object] = {"allow_other": True, "default_permissions": True} if allow_other else {}
    if (mfusepy.fuse_version_major, mfusepy.fuse_version_minor) >= (3, 12):
        options["max_threads"] = _THREADS  # without it libfuse 3.14 complains about its own default
    try:
        mfusepy.FUSE(
            operations,
            folder,
            foreground=True,
            ro=True,
            fsname="donjon",
            subtype="donjon",
            use_ino=True,
            kernel_cache=True,
            attr_timeout=_FOREVER_S,
            entry_timeout=_FOREVER_S,
            negative_timeout=_FOREVER_S,
            **options,
        )
    except RuntimeError as error:
        if operations.mounted:  # libfuse says so of an end by Ctrl-C or another signal
            return
        msg = f"{folder}: could not be mounted"
        hint = "See the line above; `--allow-other` needs user_allow_other in /etc/fuse.conf."
        raise DonjonError(msg, hint=hint) from error


def _bytes(path: str) -> bytes:
    return _name_bytes(path[1:])


def _name_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
