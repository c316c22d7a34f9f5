"""What a restore would take and what it would do, without doing it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from donjon.core.errors import IntegrityFailure
from donjon.format.entries import Entry, Kind
from donjon.recovery.content import has_content
from donjon.recovery.restore import Request, Select, selected
from donjon.repository.reading import ChunkReader
from donjon.repository.tree import Tree
from donjon.sources.selection import compile_patterns
from donjon.targets.base import Overwrite

#: Told of each item, and whether it would be made, replaced or kept.
Tell = Callable[[str, bytes, Entry], None]


@dataclass(slots=True)
class Planned:
    """What a restore would do. ``size_bytes`` is the content of the files that would be written."""

    files: int = 0
    directories: int = 0
    others: int = 0
    replaced: int = 0
    kept: int = 0
    size_bytes: int = 0


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
    """Go through a restore below ``root`` and write nothing.

    Raises ``IntegrityFailure`` for damaged metadata unless the request is to keep going; the data itself is
    not read.
    """
    planned = Planned()
    tree = Tree(request.point, reader)

    def damaged(error: IntegrityFailure) -> None:
        if not request.keep_going:
            raise error

    for path, entry in selected(request, tree, damaged):
        action = _action(request, tree, reader, os.path.join(root, path), entry)
        tell(action, path, entry)
        if action == "keep":
            planned.kept += 1
            continue
        planned.replaced += action == "replace"
        if entry.kind == Kind.FILE:
            planned.files += 1
            planned.size_bytes += entry.size
        elif entry.kind == Kind.DIRECTORY:
            planned.directories += 1
        else:
            planned.others += 1
    return planned


def _action(request: Request, tree: Tree, reader: ChunkReader, place: bytes, entry: Entry) -> str:
    try:
        status = os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        return "make"
    both_directories = entry.kind == Kind.DIRECTORY and stat.S_ISDIR(status.st_mode)
    if request.overwrite is Overwrite.NEVER or both_directories:
        return "keep"
    both_files = entry.kind == Kind.FILE and stat.S_ISREG(status.st_mode)
    if request.overwrite is Overwrite.IF_DIFFERENT and both_files:
        return "keep" if _has_content(tree, reader, request, place, entry) else "replace"
    return "replace"


def _has_content(tree: Tree, reader: ChunkReader, request: Request, place: bytes, entry: Entry) -> bool:
    ids = list(tree.chunk_ids(entry))
    described = reader.describe(ids, request.point.point.uses)
    try:
        fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return has_content(fd, entry, ids, [described.length(chunk) for chunk in ids], reader)
    finally:
        os.close(fd)
