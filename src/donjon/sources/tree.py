"""A file tree as a source: walks by directory descriptors, in the order of the metadata stream."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

from donjon.core.errors import UsageError
from donjon.sources.descriptors import LIST_FLAGS, PASS_FLAGS, is_same, lstat_any, no_atime, open_quietly
from donjon.sources.item import Context, Folder, TreeItem
from donjon.sources.selection import CACHE_TAG_NAME, CACHE_TAG_SIGNATURE, Selection

#: How many directories may be open at once; deeper down the upper ones are closed for a while.
MAX_OPEN_DIRECTORIES = 64

#: The inode of the empty directory that a snapshot of btrfs has in place of another subvolume
#: (https://btrfs.readthedocs.io/en/latest/btrfs-subvolume.html, "Nested subvolumes").
_OTHER_SUBVOLUME = 2

_TAG_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class _Wanted:
    """The sources as a tree of names: each node is a source or leads to some."""

    __slots__ = ("children", "is_source")

    def __init__(self) -> None:
        self.children: dict[bytes, _Wanted] = {}
        self.is_source = False

    def add(self, path: bytes) -> None:
        """Add an absolute path."""
        node = self
        for name in filter(None, path.split(b"/")):
            node = node.children.setdefault(name, _Wanted())
        node.is_source = True


class _Level:
    """A directory on the way from the root to where the walk is. ``fd`` is -1 while it is closed."""

    __slots__ = ("depth", "device", "fd", "folder", "inside", "names", "wanted")

    def __init__(self, folder: Folder, depth: int, wanted: _Wanted | None) -> None:
        self.folder = folder
        self.depth = depth
        self.wanted = wanted
        self.fd = -1
        self.names: Iterator[bytes] = iter(())
        #: Whether everything here belongs to a source; else only what leads to one.
        self.inside = False
        #: The device of that source.
        self.device = folder.seen.st_dev

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class TreeSource:
    """Files and directories below ``paths``, as one tree rooted at ``/``.

    The directories above a source belong to the tree, what else is in them does not. Sources inside of
    others are found once. Links on the way to a source are resolved; a source that is a link itself is
    backed up as a link, unless it is written with a slash at its end. Raises ``UsageError`` for a source
    that is not there.

    ``moved`` says of folders, by their absolute paths, which others are read in their place: their snapshots.
    What is in those has the paths of the folders. What a snapshot lacks, as it is another subvolume, is a
    problem.
    """

    def __init__(
        self,
        paths: Sequence[bytes],
        selection: Selection | None = None,
        *,
        max_open_directories: int = MAX_OPEN_DIRECTORIES,
        moved: Mapping[bytes, bytes] | None = None,
    ) -> None:
        self._selection = selection or Selection()
        self._rejects = self._selection.compile()
        self._max_open = max(2, max_open_directories)
        self._context = Context()
        self._levels: list[_Level] = []
        self._moved = dict(moved or {})
        self._wanted = _Wanted()
        if not paths:
            raise UsageError("there is nothing to back up", hint="Name at least one file or directory.")
        for path in paths:
            self._wanted.add(_existing(path))

    def problems(self) -> list[tuple[bytes, str]]:
        """(path, reason) of what could not be listed or looked at so far."""
        return list(self._context.problems)

    def items(self) -> Generator[TreeItem, None, None]:
        """Pre-order, names in ascending byte order. May be consumed once."""
        levels, rejects, moved = self._levels, self._rejects, self._moved
        lstat, directory, regular = os.stat, stat.S_IFDIR, stat.S_IFREG
        try:
            self._start()
            while levels:
                level = levels[-1]
                fd, folder, depth = level.fd, level.folder, level.depth
                for name in level.names:
                    place = moved.get(folder.prefix + name) if moved else None
                    try:
                        status = lstat(place or name, dir_fd=fd, follow_symlinks=False)
                    except OSError as error:
                        self._missed(folder.prefix + name, error)
                        continue
                    kind = status.st_mode & 0o170000
                    if kind != directory:
                        if rejects is None or not rejects(folder.prefix + name, status):
                            yield TreeItem(depth, name, kind == regular, folder, status)
                    elif not self._skips(level, name, status):
                        yield TreeItem(depth, name, False, folder, status, place)
                        if self._enter(level, name, status, place):
                            break
                else:
                    self._leave()
        finally:
            for level in levels:
                level.close()
            levels.clear()

    def _missed(self, path: bytes, error: OSError) -> None:
        if isinstance(error, FileNotFoundError):
            reason = "vanished while it was backed up"
        else:
            reason = error.strerror or str(error)
        self._context.problems.append((path, reason))

    def _start(self) -> None:
        place = self._moved.get(b"/")
        root = os.lstat(place or b"/")
        level = _Level(Folder(self._context, None, b"", root, place), 0, self._wanted)
        level.inside = self._wanted.is_source
        self._open(level, place or b"/", None)

    def _skips(self, level: _Level, name: bytes, status: os.stat_result) -> bool:
        """Whether a directory is left out altogether. What only leads to a source never is."""
        if (status.st_dev, status.st_ino) in self._selection.never:
            return True
        if self._rejects is None:
            return False
        if not level.inside:
            wanted = level.wanted.children.get(name) if level.wanted else None
            if wanted is None or not wanted.is_source:
                return False
        return self._rejects(level.folder.prefix + name, status)

    def _enter(self, above: _Level, name: bytes, status: os.stat_result, place: bytes | None) -> bool:
        """Go down into a directory, if anything in it is wanted and it can be listed.

        ``place`` is what is read in its place, if anything.
        """
        wanted = above.wanted.children.get(name) if above.wanted is not None else None
        inside, device = above.inside, above.device
        if wanted is not None and wanted.is_source:
            inside, device = True, status.st_dev
        elif inside and status.st_dev != device and self._selection.one_file_system:
            inside = False
        if not inside and (wanted is None or not wanted.children):
            return False
        if above.folder.moved is not None and place is None and status.st_ino == _OTHER_SUBVOLUME:
            reason = "is another subvolume, which the snapshot lacks; name it in the paths, too"
            self._context.problems.append((above.folder.prefix + name, reason))
            return False
        folder = Folder(self._context, above.folder, name, status, place)
        level = _Level(folder, above.depth + 1, wanted)
        level.inside, level.device = inside, device
        return self._open(level, place or name, above.fd)

    def _open(self, level: _Level, name: bytes, dir_fd: int | None) -> bool:
        """Open a level, list its names and put it on the stack; False if a problem was noted instead."""
        try:
            level.fd = self._open_level(level, name, dir_fd)
            if level.inside:
                level.names = self._list(level.fd)
            elif level.wanted is not None:
                level.names = iter(sorted(level.wanted.children))
        except OSError as error:
            level.close()
            self._missed(level.folder.prefix.rstrip(b"/") or b"/", error)
            return False
        self._levels.append(level)
        if len(self._levels) > self._max_open:
            self._levels[-1 - self._max_open].close()
        return True

    def _open_level(self, level: _Level, name: bytes, dir_fd: int | None) -> int:
        """Open a directory and see that it is the one that the walk saw."""
        if level.inside:
            quiet = no_atime(level.folder.seen.st_uid, self._context.euid)
            fd = open_quietly(name, LIST_FLAGS, quiet, dir_fd)
        else:
            fd = open_quietly(name, PASS_FLAGS | os.O_NOFOLLOW, 0, dir_fd)
        try:
            found = os.fstat(fd)
            if not is_same(found, level.folder.seen):
                # A file system mounted by the opening itself (autofs) is no swap: looked at again
                # without following links, the name still leads to what was opened.
                if found.st_dev == level.folder.seen.st_dev or not _leads_to(name, dir_fd, found):
                    raise OSError(0, "was replaced by something else while it was backed up")
                level.folder.seen = found
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _list(self, fd: int) -> Iterator[bytes]:
        names = sorted(map(os.fsencode, os.listdir(fd)))
        if self._selection.caches and CACHE_TAG_NAME in names and _is_cache(fd):
            return iter(())
        return iter(names)

    def _leave(self) -> None:
        """Go back up; the level above is opened again if it was closed to save descriptors."""
        left = self._levels.pop()
        if self._levels and self._levels[-1].fd < 0:
            # What is above a snapshot is not what is above the folder that it is shown as.
            together = left.folder.moved is self._levels[-1].folder.moved
            self._reopen(self._levels[-1], left.fd if together else -1)
        left.close()

    def _reopen(self, level: _Level, below: int) -> None:
        path = level.folder.place.rstrip(b"/") or b"/"
        ways: Iterable[tuple[bytes, int | None]] = [(path, None)]
        if below >= 0:
            ways = [(b"..", below), (path, None)]
        for name, dir_fd in ways:
            try:
                level.fd = self._open_level(level, name, dir_fd)
            except OSError:
                continue
            return
        if next(level.names, None) is not None:
            shown = level.folder.prefix.rstrip(b"/") or b"/"
            self._context.problems.append((shown, "was moved while it was backed up; the rest is missing"))
        level.names = iter(())


def _leads_to(name: bytes, dir_fd: int | None, found: os.stat_result) -> bool:
    return is_same(os.stat(name, dir_fd=dir_fd, follow_symlinks=False), found)


def _is_cache(fd: int) -> bool:
    """Whether the ``CACHEDIR.TAG`` in a directory is a true one."""
    try:
        tag = os.open(CACHE_TAG_NAME, _TAG_FLAGS, dir_fd=fd)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(tag).st_mode):
            return False
        return os.read(tag, len(CACHE_TAG_SIGNATURE)) == CACHE_TAG_SIGNATURE
    except OSError:
        return False
    finally:
        os.close(tag)


def _existing(path: bytes) -> bytes:
    """The absolute path of a source; links are resolved, that of the last name only before a slash."""
    head, name = os.path.split(path)
    if name in (b"", b".", b".."):
        absolute = os.path.realpath(path or b".")
    else:
        absolute = os.path.join(os.path.realpath(head), name)
    try:
        lstat_any(absolute)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot back up {os.fsdecode(path)}: {reason}", hint="Check the path.") from error
    return absolute
