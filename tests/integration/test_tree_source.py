from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from donjon.core.errors import UsageError
from donjon.format.entries import Entry, Kind
from donjon.sources.base import Source
from donjon.sources.content import MAX_EXTENTS
from donjon.sources.item import TreeItem
from donjon.sources.selection import CACHE_TAG_SIGNATURE, Selection
from donjon.sources.stream import UNKNOWN_SIZE, StreamSource
from donjon.sources.tree import TreeSource
from donjon.testing.conformance.sources import SourceTests, read_all
from donjon.testing.folders import open_to_others
from donjon.testing.trees import DEEP_NAMES, build_gnarly_tree
from donjon.testing.users import acting_as

OTHER_USER = 12345


@pytest.fixture
def place(tmp_path: Path) -> Iterator[bytes]:
    """A folder that others may enter, removed in the end, whatever it holds."""
    open_to_others(tmp_path)
    yield os.fsencode(tmp_path)
    shutil.rmtree(tmp_path)


def make(place: bytes, *names: bytes) -> None:
    """Make files with their name as content, or directories where a name ends with a slash."""
    for name in names:
        path = place + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not name.endswith(b"/"):
            with open(path, "wb") as file:
                file.write(name)


def found(source: Source, below: bytes) -> list[bytes]:
    return [item.path[len(below) + 1 :] for item in source.items() if item.path.startswith(below + b"/")]


def the_file(place: bytes, data: bytes = b"some data") -> TreeItem:
    with open(place + b"/file", "wb") as file:
        file.write(data)
    *_, item = TreeSource([place + b"/file"]).items()
    return item


class TestTreeSource(SourceTests):
    @pytest.fixture(autouse=True)
    def _tree(self, place: bytes) -> None:
        self.root = place + b"/tree"
        build_gnarly_tree(self.root)

    def make(self) -> Source:
        return TreeSource([self.root])


class TestStreamSource(SourceTests):
    comparable = False

    def make(self) -> Source:
        read, write = os.pipe()
        with os.fdopen(write, "wb") as end:
            end.write(b"dump" * 1000)
        self.ends.append(os.fdopen(read, "rb"))
        return StreamSource(b"db/dumps/all.sql", self.ends[-1], clock=lambda: 1_000_000_000)

    @pytest.fixture(autouse=True)
    def _close(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            self.ends = [stack.enter_context(open(os.devnull, "rb"))]
            yield
            for end in self.ends:
                end.close()

    def test_content_is_what_its_extents_say(self) -> None:  # type: ignore[override]
        *above, item = self.make().items()
        assert [folder.path for folder in above] == [b"/db", b"/db/dumps"]
        assert item.size == UNKNOWN_SIZE
        content = item.open()
        assert read_all(content) == b"dump" * 1000
        assert content.close()
        assert item.describe().size == item.size == 4000
        assert item.describe().mtime_s == 1_000_000_000
        with pytest.raises(OSError, match="again"):
            item.open()
        with pytest.raises(OSError, match="again"):
            item.refresh()

    def test_what_was_not_read_to_its_end_is_not_complete(self) -> None:
        *_, item = self.make().items()
        content = item.open()
        content.readinto(memoryview(bytearray(10)))
        assert not content.close()

    @pytest.mark.parametrize("name", [b"", b"/", b"a/../b", b"./a", b"a//b", b"a/", b"a\0"])
    def test_names_that_are_none(self, name: bytes) -> None:
        with pytest.raises(UsageError, match="cannot name a file"):
            StreamSource(name, self.ends[0])


# -- which items -------------------------------------------------------------------------------------


def test_sources_merge_into_one_tree_with_the_directories_above(place: bytes) -> None:
    make(place, b"a/b/file", b"a/b/other", b"a/c/file", b"a-b/file", b"a.b", b"z/not")
    sources = [place + name for name in (b"/a/c", b"/a/b/file", b"/a-b", b"/a.b", b"/a/b/file", b"/a/c/file")]
    items = list(TreeSource(sources).items())
    above = place.count(b"/")
    assert [item.depth for item in items[:above]] == list(range(above))
    assert items[above - 1].path == place
    assert [item.path[len(place) + 1 :] for item in items[above:]] == [
        b"a", b"a/b", b"a/b/file", b"a/c", b"a/c/file", b"a-b", b"a-b/file", b"a.b",
    ]  # fmt: skip
    assert all(item.describe().kind == Kind.DIRECTORY for item in items[:above])


def test_relative_paths_and_links(place: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    make(place, b"real/inside", b"real/deeper/file")
    os.symlink(b"real", place + b"/link")
    monkeypatch.chdir(place + b"/real/deeper")  # type: ignore[arg-type]  # os.chdir takes bytes
    assert found(TreeSource([b"."]), place) == [b"real", b"real/deeper", b"real/deeper/file"]
    assert found(TreeSource([b"../inside"]), place) == [b"real", b"real/inside"]
    assert found(TreeSource([place + b"/link"]), place) == [b"link"]
    assert found(TreeSource([place + b"/link/inside"]), place) == [b"real", b"real/inside"]
    assert b"real/inside" in found(TreeSource([place + b"/link/"]), place)


def test_the_root_itself() -> None:
    items = TreeSource([b"/"]).items()
    first = next(items)
    assert (first.depth, first.path) == (0, b"/" + min(map(os.fsencode, os.listdir("/"))))
    items.close()


@pytest.mark.parametrize("path", [b"missing", b"file/below", b"x" * 300, b"a\0b"])
def test_a_missing_source_is_named_before_anything_is_read(place: bytes, path: bytes) -> None:
    make(place, b"file")
    with pytest.raises(UsageError, match="cannot back up"):
        TreeSource([place + b"/file", place + b"/" + path])
    with pytest.raises(UsageError, match="nothing"):
        TreeSource([])


def test_few_descriptors_and_any_depth(place: bytes) -> None:
    build_gnarly_tree(place + b"/tree")
    expected = found(TreeSource([place + b"/tree"]), place)
    before = len(os.listdir("/proc/self/fd"))
    most = 0
    paths = []
    source = TreeSource([place + b"/tree"], max_open_directories=3)
    for item in source.items():
        most = max(most, len(os.listdir("/proc/self/fd")))
        paths.append(item.path[len(place) + 1 :])
    assert paths[-len(expected) :] == expected
    assert most <= before + 4
    assert len(os.listdir("/proc/self/fd")) == before
    assert source.problems() == []


def test_a_source_and_its_files_beyond_the_longest_path(place: bytes) -> None:
    build_gnarly_tree(place + b"/tree")
    deep = place + b"/tree/" + b"/".join(DEEP_NAMES)
    items = list(TreeSource([deep]).items())
    bottom = next(item for item in items if item.name == b"bottom")
    assert bottom.path == deep + b"/bottom"
    content = bottom.open()
    bottom.refresh()
    assert read_all(content) == b"deep down"
    assert content.close()
    assert next(item for item in items if item.name == b"link").describe().target == b"bottom"
    assert items[-3].describe().xattrs == ((b"user.deep", b"yes"),)


def test_an_abandoned_walk_leaves_nothing_open(place: bytes) -> None:
    make(place, b"a/b/c/d/file")
    before = len(os.listdir("/proc/self/fd"))
    items = TreeSource([place]).items()
    for item in items:
        if item.name == b"d":
            break
    items.close()
    assert len(os.listdir("/proc/self/fd")) == before


# -- selections --------------------------------------------------------------------------------------


def test_excludes_prune(place: bytes) -> None:
    make(place, b"keep/a.o", b"keep/a.c", b"node_modules/x/y", b"sub/node_modules/z", b"sub/b.c")
    selection = Selection(excludes=("*.o", "node_modules/", "!*.c"))
    assert found(TreeSource([place], selection), place) == [b"keep", b"keep/a.c", b"sub", b"sub/b.c"]
    # What leads to a source stays; the source itself can be left out.
    selection = Selection(excludes=("keep",))
    assert found(TreeSource([place + b"/sub/b.c", place + b"/keep"], selection), place) == [
        b"sub",
        b"sub/b.c",
    ]


def test_larger_files_and_directories_that_are_never_backed_up(place: bytes) -> None:
    make(place, b"vault/pack", b"small", b"sub/vault/fine", b"large-file")
    status = os.stat(place + b"/vault")
    never = frozenset({(status.st_dev, status.st_ino)})
    source = TreeSource([place], Selection(larger_than_bytes=9, never=never))
    assert found(source, place) == [b"small", b"sub", b"sub/vault"]
    assert source.problems() == []


def test_caches_keep_their_directory_only(place: bytes) -> None:
    make(place, b"cache/a/b", b"fake/file", b"linked/file", b"odd/file")
    for name, data in ((b"cache", CACHE_TAG_SIGNATURE + b"\n# by test"), (b"fake", CACHE_TAG_SIGNATURE[:-1])):
        with open(place + b"/" + name + b"/CACHEDIR.TAG", "wb") as file:
            file.write(data)
    os.symlink(b"../cache/CACHEDIR.TAG", place + b"/linked/CACHEDIR.TAG")
    os.mkfifo(place + b"/odd/CACHEDIR.TAG")
    names = found(TreeSource([place], Selection(caches=True)), place)
    assert [name for name in names if not name.endswith(b"CACHEDIR.TAG")] == [
        b"cache", b"fake", b"fake/file", b"linked", b"linked/file", b"odd", b"odd/file",
    ]  # fmt: skip
    assert b"cache/a/b" in found(TreeSource([place]), place)


def test_one_file_system(place: bytes) -> None:
    make(place, b"here", b"mounted/", b"sub/file")
    mount = os.fsdecode(place + b"/mounted")
    subprocess.run(["mount", "-t", "tmpfs", "donjon-test", mount], check=True)
    try:
        make(place, b"mounted/there/file", b"mounted/other")
        stay = Selection(one_file_system=True)
        assert b"mounted/there/file" in found(TreeSource([place]), place)
        assert found(TreeSource([place], stay), place) == [b"here", b"mounted", b"sub", b"sub/file"]
        both = TreeSource([place, place + b"/mounted/there"], stay)
        assert found(both, place) == [
            b"here", b"mounted", b"mounted/there", b"mounted/there/file", b"sub", b"sub/file",
        ]  # fmt: skip
    finally:
        subprocess.run(["umount", mount], check=True)


# -- what changes underway ---------------------------------------------------------------------------


def test_a_directory_swapped_for_a_link_is_not_entered(place: bytes) -> None:
    make(place, b"tree/dir/file", b"outside/secret", b"tree/later")
    source = TreeSource([place + b"/tree"])
    paths = []
    for item in source.items():
        paths.append(item.path[len(place) + 1 :])
        if item.name == b"dir":
            os.rename(item.path, item.path + b"-moved")
            os.symlink(place + b"/outside", item.path)
    assert paths[-3:] == [b"tree", b"tree/dir", b"tree/later"]
    assert [path for path, _ in source.problems()] == [place + b"/tree/dir"]


def test_a_directory_swapped_for_another_is_not_entered(place: bytes) -> None:
    make(place, b"tree/dir/file", b"outside/secret")
    source = TreeSource([place + b"/tree"])
    for item in source.items():
        assert item.name != b"secret"
        if item.name == b"dir":
            os.rename(item.path, item.path + b"-moved")
            os.rename(place + b"/outside", item.path)
    assert "replaced" in source.problems()[0][1]


def test_a_parent_swapped_for_a_link_leads_no_file_outside(place: bytes) -> None:
    make(place, b"tree/dir/file", b"outside/file")
    *_, item = TreeSource([place + b"/tree"]).items()
    os.rename(place + b"/tree/dir", place + b"/tree/moved")
    os.symlink(place + b"/outside", place + b"/tree/dir")
    os.setxattr(place + b"/outside/file", b"user.secret", b"s")
    for attempt in (item.open, item.refresh, item.describe):
        with pytest.raises(OSError, match=r"replaced|directory") as caught:
            attempt()
        assert os.fsencode(caught.value.filename).startswith(place + b"/tree/dir")


def test_a_moved_tree_is_a_problem_and_no_crash(place: bytes) -> None:
    make(place, b"tree/a/b/c/file", b"tree/a/z", b"tree/z", b"outside/")
    source = TreeSource([place + b"/tree"], max_open_directories=2)
    paths = []
    for item in source.items():
        paths.append(item.path[len(place) + 1 :])
        if item.name == b"file":
            os.rename(place + b"/tree/a/b", place + b"/outside/b")
            os.rename(place + b"/tree/a", place + b"/outside/a")
    assert b"tree/z" in paths
    assert [path for path, _ in source.problems()] == [place + b"/tree/a"]


def test_what_vanishes_is_a_problem(place: bytes) -> None:
    make(place, b"a", b"b", b"c/d", b"e")
    source = TreeSource([place])
    paths = []
    for item in source.items():
        paths.append(item.path[len(place) + 1 :])
        if item.name == b"a":
            os.unlink(place + b"/b")
        if item.name == b"c":
            shutil.rmtree(place + b"/c")
    assert paths[-3:] == [b"a", b"c", b"e"]
    assert [path for path, _ in source.problems()] == [place + b"/b", place + b"/c"]
    os.unlink(place + b"/e")
    with pytest.raises(FileNotFoundError):
        item.open()


def test_what_may_not_be_read_is_a_problem(place: bytes) -> None:
    make(place, b"closed/file", b"open/file", b"open/secret", b"passable/file")
    os.chmod(place + b"/closed", 0o700)
    os.chmod(place + b"/open/secret", 0o600)
    os.chmod(place + b"/passable", 0o711)
    with acting_as(OTHER_USER):
        source = TreeSource([place, place + b"/passable/file"])
        items = list(source.items())
        secret = next(item for item in items if item.name == b"secret")
        with pytest.raises(PermissionError):
            secret.open()
        assert secret.describe().kind == Kind.FILE
        assert found(TreeSource([place + b"/passable/file"]), place) == [b"passable", b"passable/file"]
    assert {path[len(place) + 1 :] for path, _ in source.problems()} == {b"closed", b"passable"}
    assert [item.name for item in items][-5:] == [b"closed", b"open", b"file", b"secret", b"passable"]


@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite", "touch", "chmod", "before"])
def test_changes_while_reading_are_told(place: bytes, change: str) -> None:
    item = the_file(place, b"x" * 10_000)
    if change == "before":
        os.truncate(item.path, 100)
    content = item.open()
    buffer = memoryview(bytearray(20_000))
    assert content.readinto(buffer[:10]) == 10
    if change == "grow":
        with open(item.path, "ab") as file:
            file.write(b"more")
    elif change == "shrink":
        os.truncate(item.path, 5000)
    elif change == "rewrite":
        with open(item.path, "r+b") as file:
            file.write(b"y")
    elif change == "touch":
        os.utime(item.path, (1, 1))
    elif change == "chmod":
        os.chmod(item.path, 0o600)
    expected = {"shrink": 4990, "before": 90}.get(change, 9990)
    assert content.readinto(buffer) == expected
    assert content.readinto(buffer) == 0
    assert not content.close()
    item.refresh()
    again = item.open()
    assert len(read_all(again)) == os.path.getsize(item.path)
    assert again.close()


def test_a_file_replaced_as_editors_do_is_read_anew(place: bytes) -> None:
    item = the_file(place)
    with open(place + b"/new", "wb") as file:
        file.write(b"edited")
    os.rename(place + b"/new", item.path)
    content = item.open()
    assert read_all(content) == b"edited"
    assert content.close()
    assert item.describe().size == 6


@pytest.mark.parametrize("kind", ["fifo", "link", "socket", "directory"])
def test_a_file_replaced_by_something_else_is_not_opened(place: bytes, kind: str) -> None:
    item = the_file(place)
    os.unlink(item.path)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as end:
        if kind == "fifo":
            os.mkfifo(item.path)
        elif kind == "link":
            os.symlink(b"/etc/passwd", item.path)
        elif kind == "directory":
            os.mkdir(item.path)
        else:
            end.bind(item.path)
        with pytest.raises(OSError, match=r"."):
            item.open()


# -- describing and comparing ------------------------------------------------------------------------


def test_same_as_sees_every_change(place: bytes) -> None:
    item = the_file(place)
    entry = item.describe()
    assert item.same_as(entry)
    changes: dict[str, object] = {
        "kind": int(Kind.FIFO), "mode": 0o600, "uid": 7, "gid": 7, "mtime_s": 1, "mtime_ns": 1_000,
        "ctime_s": 1, "ctime_ns": 1_000, "inode": 1, "size": 1,
    }  # fmt: skip
    for field, value in changes.items():
        assert not item.same_as(msgspec.structs.replace(entry, **{field: value})), field
    assert not item.same_as(msgspec.structs.replace(entry, kind=99))


def test_device_numbers_count_for_hard_links_only(place: bytes) -> None:
    item = the_file(place)
    other: Entry = msgspec.structs.replace(item.describe(), device=99)
    assert item.same_as(other)
    assert not item.same_as(msgspec.structs.replace(other, links=2))


def test_names_of_owners_and_the_access_time(place: bytes) -> None:
    item = the_file(place)
    entry = item.describe()
    assert (entry.user, entry.group) == ("root", "root")
    os.chown(item.path, 54321, 54321)
    os.utime(item.path, (1, 1))
    *_, item = TreeSource([item.path]).items()
    assert (item.describe().user, item.describe().group) == ("", "")
    content = item.open()
    read_all(content)
    content.close()
    assert os.stat(item.path).st_atime == 1


def test_a_file_in_too_many_pieces_is_read_as_dense(place: bytes) -> None:
    path = place + b"/pieces"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    for index in range(MAX_EXTENTS + 1):
        os.pwrite(fd, b"x", index * 8192)
    os.ftruncate(fd, (MAX_EXTENTS + 1) * 8192)
    os.close(fd)
    *_, item = TreeSource([path]).items()
    content = item.open()
    assert content.extents is None
    assert content.close()


def test_extents_are_read_end_to_end(place: bytes) -> None:
    block = random.Random(1).randbytes(65_536)
    path = place + b"/sparse"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.pwrite(fd, block, 1 << 20)
    os.pwrite(fd, block, 3 << 20)
    os.ftruncate(fd, 1 << 40)
    os.close(fd)
    *_, item = TreeSource([path]).items()
    content = item.open()
    assert content.extents == ((1 << 20, 65_536), (3 << 20, 65_536))
    assert content.readinto(memoryview(bytearray(100_000))) == 100_000
    content.close()
    content = item.open()
    assert read_all(content, 7777) == block * 2
    assert content.close()
