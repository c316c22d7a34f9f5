"""What of a file tree is left out: patterns as in .gitignore files, sizes, caches, file systems."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from donjon.core.errors import UsageError

#: The first bytes of a ``CACHEDIR.TAG``, after https://bford.info/cachedir/.
CACHE_TAG_NAME = b"CACHEDIR.TAG"
CACHE_TAG_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"

#: Takes an absolute path and its status, and tells whether the item is left out.
Rejects = Callable[[bytes, os.stat_result], bool]

# Stands for a newline in names and patterns, because expressions give it a meaning ("$" matches before
# one at the end). No name decodes to it: file names have surrogates from U+DC80 on only.
_NEWLINE = "\udc0a"


@dataclass(frozen=True, slots=True)
class Selection:
    """What to leave out.

    ``excludes`` are patterns as in a .gitignore file at ``/``; later ones win, ``!`` takes back.
    ``caches`` leaves out the content of directories with a ``CACHEDIR.TAG``. ``one_file_system`` stays
    on the file system of each source. ``larger_than_bytes`` leaves out files over that size.
    ``never`` are the (device, inode) of directories that are left out whatever else holds, such as the
    vault itself.
    """

    excludes: tuple[str, ...] = ()
    caches: bool = False
    one_file_system: bool = False
    larger_than_bytes: int | None = None
    never: frozenset[tuple[int, int]] = frozenset()

    def compile(self) -> Rejects | None:
        """The test for each item, or None if patterns and sizes leave nothing out.

        Raises ``UsageError`` for a pattern that makes no sense.
        """
        limit = self.larger_than_bytes
        matches = compile_patterns(self.excludes)
        if matches is None and limit is None:
            return None

        def rejects(path: bytes, status: os.stat_result) -> bool:
            mode = status.st_mode
            if limit is not None and status.st_size > limit and stat.S_ISREG(mode):
                return True
            return matches is not None and matches(path, stat.S_ISDIR(mode))

        return rejects


def compile_patterns(lines: tuple[str, ...]) -> Callable[[bytes, bool], bool] | None:
    """Tells for an absolute path, and whether it is a directory, if the patterns match it or what it is in.

    None if there is no pattern. Raises ``UsageError`` for one that makes no sense.
    """
    if not lines:
        return None
    from pathspec import GitIgnoreSpec

    try:
        # The other backends, used if they happen to be installed, refuse names that are not UTF-8.
        spec = GitIgnoreSpec.from_lines([_prepare(line) for line in lines], backend="simple")
    except (ValueError, re.error) as error:  # pathspec passes on a range such as [z-a]
        raise UsageError(f"a pattern makes no sense: {error}") from error
    patterns = [pattern for pattern in spec.patterns if pattern.include is not None]
    if not patterns:
        return None

    def matches(path: bytes, is_directory: bool) -> bool:
        text = os.fsdecode(path[1:]).replace("\n", _NEWLINE)
        return bool(spec.check_file(text + "/" if is_directory else text).include)

    return matches


def _prepare(line: str) -> str:
    """``a/**`` means all that is in ``a``; pathspec takes it for ``a`` as well, which ends the walk there."""
    line = line.replace("\n", _NEWLINE)
    if line.endswith("/**"):
        return line + "/*"
    return line + "*/" if line.endswith("/**/") else line


def read_exclude_file(path: Path) -> tuple[str, ...]:
    """The patterns of an exclude file, one a line, in its order. Raises ``UsageError``."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            return tuple(line.rstrip("\n") for line in file)  # lines as Git has them: form feeds are text
    except OSError as error:
        raise UsageError(f"the exclude file {path} cannot be read: {error.strerror}") from error
