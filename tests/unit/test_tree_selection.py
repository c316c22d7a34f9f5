from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from donjon.core.errors import UsageError
from donjon.sources.selection import Selection, read_exclude_file


def status(mode: int, size: int = 0) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, 0, 0, size, 0, 0, 0))


FILE, DIRECTORY = status(stat.S_IFREG | 0o644, 10), status(stat.S_IFDIR | 0o755)


def rejected(path: bytes, *patterns: str, found: os.stat_result = FILE) -> bool:
    rejects = Selection(excludes=patterns).compile()
    return rejects is not None and rejects(path, found)


def test_without_rules_there_is_nothing_to_ask() -> None:
    assert Selection().compile() is None
    assert Selection(caches=True, one_file_system=True, never=frozenset({(1, 2)})).compile() is None
    assert Selection(excludes=("", "# a comment", "   ")).compile() is None


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.o", b"/a/b/c.o", True),
        ("*.o", b"/c.o", True),
        ("*.o", b"/c.oo", False),
        ("/home/x", b"/home/x", True),
        ("/home/x", b"/mnt/home/x", False),
        ("home/x", b"/mnt/home/x", False),
        ("home/x", b"/home/x", True),
        ("**/home/x", b"/mnt/home/x", True),
        ("/home/*/tmp", b"/home/u/tmp", True),
        ("/home/*/tmp", b"/home/u/v/tmp", False),
        ("/a/**/z", b"/a/z", True),
        ("/a/**/z", b"/a/b/c/z", True),
        ("caf\udce9", b"/caf\xe9", True),
        ("na?e", b"/na\xffe", True),
        ("a?b", b"/a\nb", True),
        ("*.tmp", b"/line\nbreak.tmp", True),
        ("foo", b"/foo\n", False),
        ("/a/**/z", b"/a/line\nbreak/z", True),
        ("\\!odd", b"/!odd", True),
    ],
)
def test_patterns(pattern: str, path: bytes, expected: bool) -> None:
    assert rejected(path, pattern) is expected


def test_a_slash_at_the_end_means_directories() -> None:
    assert rejected(b"/x/node_modules", "node_modules/", found=DIRECTORY)
    assert not rejected(b"/x/node_modules", "node_modules/")


def test_what_is_in_a_directory_is_not_the_directory() -> None:
    for pattern in ("/keep/*", "/keep/**", "/keep/**/", "keep/*/"):
        assert not rejected(b"/keep", pattern, found=DIRECTORY)
        assert rejected(b"/keep/a", pattern, found=DIRECTORY)
    assert not rejected(b"/keep/a", "/keep/**", "!/keep/a")


def test_later_patterns_win() -> None:
    assert not rejected(b"/keep.o", "*.o", "!keep.o")
    assert rejected(b"/keep.o", "!keep.o", "*.o")


def test_larger_files_only() -> None:
    rejects = Selection(larger_than_bytes=9).compile()
    assert rejects is not None
    assert rejects(b"/a", FILE)
    assert not rejects(b"/a", status(stat.S_IFREG, 9))
    assert not rejects(b"/a", status(stat.S_IFDIR, 4096))


def test_a_pattern_without_sense_is_named() -> None:
    with pytest.raises(UsageError, match="makes no sense"):
        Selection(excludes=("!",)).compile()


def test_exclude_files(tmp_path: Path) -> None:
    file = tmp_path / "excludes"
    file.write_bytes(b"# comment\n*.o\r\n\ncaf\xe9\n")
    assert rejected(b"/caf\xe9", *read_exclude_file(file))
    assert rejected(b"/a.o", *read_exclude_file(file))
    with pytest.raises(UsageError, match="missing"):
        read_exclude_file(tmp_path / "missing")
