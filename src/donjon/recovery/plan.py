"""What a restore would take and what it would do, without doing it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from donjon.core.errors import IntegrityFailure
from donjon.format.entries import Entry, Kind
from donjon.format.segments import Problem
from donjon.recovery.content import has_content
from donjon.recovery.request import Request, Select, selected
from donjon.repository.reading import ChunkReader
from donjon.repository.tree import Tree
from donjon.sources.selection import compile_patterns
from donjon.targets.base import Overwrite
from donjon.targets.directories import Directories
from donjon.targets.writer import is_unfinished_file

#: Told of each item, and whether it would be made, replaced, kept or refused.
Tell = Callable[[str, bytes, Entry], None]


@dataclass(slots=True)
class Planned:
    """What a restore would do. ``size_bytes`` is the content of the files that would be written, once each.

    ``directories`` are those that would be made, ``problems`` is what the target would refuse,
    ``damage`` is what the vault could not tell.
    """

    files: int = 0
    directories: int = 0
    others: int = 0
    replaced: int = 0
    kept: int = 0
    size_bytes: int = 0
    problems: list[Problem] = field(default_factory=list)
    damage: list[Problem] = field(default_factory=list)


def choose(includes: tuple[str, ...], excludes: tuple[str, ...]) -> Select | None:
    """What patterns as in a .gitignore file at ``/`` take; None for everything.

    Without ``includes`` all is taken that ``excludes`` do not match. Raises ``UsageError`` for a pattern
    that makes no sense.
    """
    wanted, unwanted = compile_patterns(includes), compile_patterns(excludes)
    if wanted is None and unwanted is None:
        return None

    def takes(path: bytes, entry: Entry) -> bool:
        absolute, is_directory = b"/" + path, entry.kind == Kind.DIRECTORY
        if wanted is not None and not wanted(absolute, is_directory):
            return False
        return unwanted is None or not unwanted(absolute, is_directory)

    return takes


def plan(request: Request, reader: ChunkReader, root: bytes, tell: Tell) -> Planned:
    """Go through a restore to the folder ``root``, which need not be there, and write nothing.

    Raises ``IntegrityFailure`` for damaged metadata unless the request is to keep going, and ``UsageError``
    if ``root`` cannot be used; the data itself is not read.
    """
    planned = Planned()
    tree = Tree(request.point, reader)
    look = _Outlook(request, tree, reader, root)
    written: set[tuple[int, int]] = set()  # device and inode of files with several names

    def damaged(error: IntegrityFailure, path: bytes = b"") -> None:
        if not request.keep_going:
            raise error
        planned.damage.append(Problem(path, error.message))

    for path, entry in selected(request, tree, damaged):
        try:
            action = look.action(path, entry)
        except IntegrityFailure as error:
            damaged(error, path)
            continue
        except OSError as error:
            planned.problems.append(Problem(path, error.strerror or str(error)))
            action = "refuse"
        tell(action, path, entry)
        _count(planned, action, entry)
        if action in ("make", "replace") and entry.kind == Kind.FILE:
            identity = (entry.device, entry.inode)
            if identity not in written:
                planned.size_bytes += entry.size
            if entry.links > 1:
                written.add(identity)
    return planned


def _count(planned: Planned, action: str, entry: Entry) -> None:
    is_directory = entry.kind == Kind.DIRECTORY
    if action == "keep":
        planned.kept += not is_directory
    elif action != "refuse":
        planned.replaced += action == "replace"
        planned.directories += is_directory
        if entry.kind == Kind.FILE:
            planned.files += 1
        elif not is_directory:
            planned.others += 1


class _Outlook:
    """What a restore would find below ``root``, and do."""

    def __init__(self, request: Request, tree: Tree, reader: ChunkReader, root: bytes) -> None:
        self._request, self._tree, self._reader = request, tree, reader
        self._euid = os.geteuid()
        self._directories = Directories(root, euid=self._euid) if os.path.lexists(root) else None
        self._replaced: bytes | None = None  # the last path where a directory takes the place of a file

    def action(self, path: bytes, entry: Entry) -> str:
        """What would become of the next item. Raises ``OSError`` if something is in its way."""
        if self._directories is None or (self._replaced and path.startswith(self._replaced + b"/")):
            return "make"
        try:
            directory, name = self._directories.parent(path)
            status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            return "make"
        if entry.kind == Kind.DIRECTORY:
            return self._for_directory(path, status)
        return self._for_other(directory.fd, name, status, entry)

    def _for_directory(self, path: bytes, status: os.stat_result) -> str:
        if stat.S_ISDIR(status.st_mode):
            return "keep"
        if self._request.overwrite is Overwrite.NEVER or stat.S_ISLNK(status.st_mode):
            reason = "is in the way: it is no directory, and links are not followed"
            raise OSError(errno.ENOTDIR, reason, path)
        self._replaced = path
        return "replace"

    def _for_other(self, dir_fd: int, name: bytes, status: os.stat_result, entry: Entry) -> str:
        overwrite = self._request.overwrite
        if overwrite is Overwrite.NEVER:
            return "make" if is_unfinished_file(status, self._euid) else "keep"
        if stat.S_ISDIR(status.st_mode):
            if not _is_empty(dir_fd, name):
                raise OSError(errno.ENOTEMPTY, "is in the way: it is a directory with content", name)
            return "replace"
        both_files = entry.kind == Kind.FILE and stat.S_ISREG(status.st_mode)
        if overwrite is Overwrite.IF_DIFFERENT and both_files and self._has_content(dir_fd, name, entry):
            return "keep"
        return "replace"

    def _has_content(self, dir_fd: int, name: bytes, entry: Entry) -> bool:
        ids = list(self._tree.chunk_ids(entry))
        described = self._reader.describe(ids, self._request.point.point.uses)
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
        try:
            return has_content(fd, entry, ids, [described.length(chunk) for chunk in ids], self._reader)
        finally:
            os.close(fd)


def _is_empty(dir_fd: int, name: bytes) -> bool:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        return not os.listdir(fd)
    finally:
        os.close(fd)
