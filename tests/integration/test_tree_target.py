from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from donjon.core.errors import DonjonError, IntegrityFailure, UsageError
from donjon.format.entries import Entry, Kind
from donjon.sources.item import TreeItem
from donjon.sources.tree import TreeSource
from donjon.targets.attributes import MAX_WARNINGS
from donjon.targets.base import Overwrite, Target
from donjon.targets.tree import TEMPORARY_PREFIX, TreeTarget
from donjon.targets.writer import UNFINISHED_FILE
from donjon.testing.folders import open_to_others
from donjon.testing.trees import ACCESS_ACL, DEFAULT_ACL, build_gnarly_tree, compare_trees
from donjon.testing.users import acting_as

OTHER_USER = 12345
FILE = Entry(depth=0, name=b"f", kind=int(Kind.FILE), mode=0o640, mtime_s=5, size=4)
FOLDER = Entry(depth=0, name=b"d", kind=int(Kind.DIRECTORY), mode=0o750, mtime_s=6)
LINK = Entry(depth=0, name=b"l", kind=int(Kind.SYMLINK), mode=0o777, mtime_s=7, target=b"/etc/passwd")
FIFO = Entry(depth=0, name=b"p", kind=int(Kind.FIFO), mode=0o622, mtime_s=8)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[bytes]:
    """A folder that others may enter, with one beside the target that must never change."""
    open_to_others(tmp_path)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_bytes(b"precious")
    yield os.fsencode(tmp_path)
    assert os.listdir(tmp_path / "outside") == ["f"]
    assert (tmp_path / "outside" / "f").read_bytes() == b"precious"
    shutil.rmtree(tmp_path)


@pytest.fixture
def root(place: bytes) -> bytes:
    return place + b"/root"


def put(target: Target, path: bytes, data: bytes = b"data", entry: Entry = FILE) -> bool:
    writer = target.create_file(path, msgspec.structs.replace(entry, size=len(data)))
    if writer is None:
        return False
    writer.write_at(0, data)
    writer.finish()
    return True


def read(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def copy(source: TreeSource, below: bytes, target: TreeTarget, *, threads: int = 1) -> None:
    """What backup and restore do, without a vault between them."""
    groups: dict[tuple[int, int], bytes] = {}
    links: list[tuple[bytes, bytes]] = []
    directories: list[tuple[bytes, Entry]] = []
    with ThreadPoolExecutor(threads) as pool:
        work = []
        for item in source.items():
            if not item.path.startswith(below + b"/"):
                continue
            path = item.path[len(below) + 1 :]
            first = groups.setdefault(item.link_group, path) if item.link_group else path
            if first != path:
                links.append((path, first))
            elif item.is_file:
                work.append(pool.submit(copy_file, item, path, target))
            elif (entry := item.describe()).kind == Kind.DIRECTORY:
                target.make_directory(path)
                directories.append((path, entry))
            else:
                assert target.make_special(path, entry)
        for done in work:
            done.result()
    for path, first in links:
        assert target.make_link(path, first)
    for path, entry in reversed(directories):
        target.finish_directory(path, entry)


def copy_file(item: TreeItem, path: bytes, target: TreeTarget) -> None:
    content = item.open()
    entry = item.describe()
    writer = target.create_file(path, entry)
    assert writer is not None
    buffer = memoryview(bytearray(100_000))
    for offset, size in content.extents if content.extents is not None else ((0, entry.size),):
        done = 0
        while count := content.readinto(buffer[: size - done]):
            writer.write_at(offset + done, buffer[:count])
            done += count
        assert done == size
    assert content.close()
    writer.finish()


@pytest.mark.parametrize("threads", [1, 4])
def test_everything_comes_back(place: bytes, root: bytes, threads: int) -> None:
    build_gnarly_tree(place + b"/tree")
    source = TreeSource([place + b"/tree"])
    with TreeTarget(root, Overwrite.NEVER) as target:
        copy(source, place + b"/tree", target, threads=threads)
        assert target.warnings() == []
    assert compare_trees(place + b"/tree", root) == []
    assert source.problems() == []


@pytest.mark.parametrize("overwrite", [Overwrite.ALWAYS, Overwrite.IF_DIFFERENT])
def test_everything_comes_back_over_a_changed_copy(place: bytes, root: bytes, overwrite: Overwrite) -> None:
    build_gnarly_tree(place + b"/tree")
    with TreeTarget(root, Overwrite.NEVER) as target:
        copy(TreeSource([place + b"/tree"]), place + b"/tree", target)
    for name in (b"/names/a", b"/contents/4096", b"/holes/start", b"/owners/link", b"/links/two"):
        os.unlink(root + name)
    os.mkdir(root + b"/names/a")
    os.symlink(b"/etc/passwd", root + b"/contents/4096")
    os.chmod(root + b"/modes", 0o777)
    os.setxattr(root + b"/names", b"user.more", b"x")
    os.setxattr(root + b"/names", b"system.posix_acl_default", DEFAULT_ACL)
    os.rmdir(root + b"/names/empty")
    with open(root + b"/names/empty", "wb"):
        pass
    with TreeTarget(root, overwrite) as target:
        copy(TreeSource([place + b"/tree"]), place + b"/tree", target)
        assert target.warnings() == []
    assert compare_trees(place + b"/tree", root) == []


def test_the_comparison_sees_what_it_should(place: bytes) -> None:
    build_gnarly_tree(place + b"/tree")
    tree, other = place + b"/tree", place + b"/root"
    with TreeTarget(other, Overwrite.NEVER) as target:
        copy(TreeSource([tree]), tree, target)

    def differences(change: str) -> str:
        found = "\n".join(compare_trees(tree, other))
        assert found, change
        return found

    os.utime(other + b"/names/a", ns=(0, 1))
    assert "st_mtime_ns" in differences("time")
    os.setxattr(other + b"/attributes/user", b"user.a", b"2")
    assert "xattrs" in differences("attribute")
    fd = os.open(other + b"/contents/4096", os.O_WRONLY)
    os.pwrite(fd, b"\0\0\0", 5)
    os.close(fd)
    assert "content differs" in differences("content")
    os.truncate(other + b"/holes/all", 0)
    os.truncate(other + b"/holes/all", 4 << 20)
    fd = os.open(other + b"/holes/all", os.O_WRONLY)
    os.pwrite(fd, bytes(65536), 0)
    os.close(fd)
    assert "extents" in differences("hole")
    os.unlink(other + b"/links/two")
    os.link(other + b"/links/absolute", other + b"/links/two", follow_symlinks=False)
    assert "st_nlink" in differences("link")
    os.unlink(other + b"/specials/fifo")
    assert "only in the first" in differences("missing")


# -- overwriting -------------------------------------------------------------------------------------


def test_never_keeps_everything_that_is_there(root: bytes) -> None:
    os.makedirs(root + b"/d")
    os.mkfifo(root + b"/p")
    os.symlink(b"nowhere", root + b"/l")
    for name in (b"/f", b"/d/f"):
        with open(root + name, "wb") as file:
            file.write(b"mine")
    before = {name: os.lstat(root + name) for name in (b"/d", b"/f", b"/d/f", b"/p", b"/l")}
    target = TreeTarget(root, Overwrite.NEVER)
    target.make_directory(b"d")
    for name in (b"f", b"d/f", b"l", b"p", b"d"):
        assert not put(target, name)
        assert not target.make_special(name, LINK)
        assert not target.make_special(name, FIFO)
        assert not target.make_link(name, b"f")
    for name in (b"f", b"p", b"l"):
        with pytest.raises(NotADirectoryError):
            target.make_directory(name)
    target.finish_directory(b"d", FOLDER)
    after = {name: os.lstat(root + name) for name in before}
    assert [(s.st_ino, s.st_mode, s.st_mtime_ns) for s in after.values()] == [
        (s.st_ino, s.st_mode, s.st_mtime_ns) for s in before.values()
    ]
    assert read(root + b"/f") == b"mine"


def test_never_means_never_even_if_it_appears_underway(root: bytes) -> None:
    os.makedirs(root)
    target = TreeTarget(root, Overwrite.NEVER)
    writer = target.create_file(b"f", FILE)
    assert writer is not None
    assert [os.fsencode(name)[:16] for name in os.listdir(root)] == [TEMPORARY_PREFIX]
    writer.write_at(0, b"data")
    with open(root + b"/f", "wb") as file:
        file.write(b"mine")
    with pytest.raises(FileExistsError):
        writer.finish()
    assert os.listdir(root) == [b"f"]
    assert read(root + b"/f") == b"mine"


def test_no_hard_links_on_the_file_system(root: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "not here")

    monkeypatch.setattr(os, "link", refuse)
    os.makedirs(root)
    target = TreeTarget(root, Overwrite.NEVER)
    writer = target.create_file(b"g", FILE)
    assert writer is not None
    assert put(target, b"f")
    assert put(target, b"g", b"mine")
    with pytest.raises(FileExistsError):
        writer.finish()
    assert (read(root + b"/f"), read(root + b"/g")) == (b"data", b"mine")
    assert sorted(os.listdir(root)) == [b"f", b"g"]


def test_always_replaces_all_but_full_directories(root: bytes) -> None:
    os.makedirs(root + b"/empty")
    os.makedirs(root + b"/full/x")
    os.symlink(b"full", root + b"/l")
    with open(root + b"/f", "wb") as file:
        file.write(b"mine")
    target = TreeTarget(root, Overwrite.ALWAYS)
    for name in (b"empty", b"l", b"f"):
        assert put(target, name)
        assert read(root + b"/" + name) == b"data"
        assert target.make_special(name, LINK)
        assert os.readlink(root + b"/" + name) == LINK.target
    assert put(target, b"f")
    assert target.make_link(b"l", b"f")
    assert not target.make_link(b"l", b"f")  # it is there already
    assert os.path.samefile(root + b"/l", root + b"/f")
    target.make_directory(b"l")
    with pytest.raises(OSError, match="empty"):
        put(target, b"full")
    with pytest.raises(OSError, match="empty"):
        target.make_special(b"full", FIFO)
    assert sorted(os.listdir(root)) == [b"empty", b"f", b"full", b"l"]


def test_unfinished_work_is_taken_over(root: bytes) -> None:
    target = TreeTarget(root, Overwrite.NEVER)
    target.make_directory(b"d")
    writer = target.create_file(b"d/f", FILE)
    assert writer is not None
    writer.write_at(0, b"da")
    assert stat.S_IMODE(os.lstat(root + b"/d/f").st_mode) == UNFINISHED_FILE
    # Here the machine stops; the writer is never finished.
    again = TreeTarget(root, Overwrite.NEVER)
    again.make_directory(b"d")
    assert put(again, b"d/f")
    assert not put(again, b"d/f", b"late")
    again.finish_directory(b"d", FOLDER)
    assert os.listdir(root + b"/d") == [b"f"]
    assert read(root + b"/d/f") == b"data"
    assert stat.S_IMODE(os.lstat(root + b"/d/f").st_mode) == FILE.mode
    assert stat.S_IMODE(os.lstat(root + b"/d").st_mode) == FOLDER.mode


@pytest.mark.parametrize("private", [True, False])
def test_an_aborted_file_is_gone(root: bytes, private: bool) -> None:
    os.makedirs(root)
    target = TreeTarget(root, Overwrite.ALWAYS)
    if private:
        target.make_directory(b"d")
    else:
        os.mkdir(root + b"/d")
    writer = target.create_file(b"d/f", FILE)
    assert writer is not None
    writer.write_at(0, b"x")
    with pytest.raises(IntegrityFailure, match="more data"):
        writer.write_at(2, b"xxx")
    writer.abort()
    writer.abort()
    assert os.listdir(root + b"/d") == []


def test_existing_files_are_compared_and_refreshed(root: bytes) -> None:
    os.makedirs(root + b"/d")
    os.mkfifo(root + b"/p")
    os.symlink(b"f", root + b"/l")
    with open(root + b"/f", "wb") as file:
        file.write(b"data")
    os.setxattr(root + b"/f", b"user.more", b"x")
    os.setxattr(root + b"/f", b"system.posix_acl_access", ACCESS_ACL)
    target = TreeTarget(root, Overwrite.IF_DIFFERENT)
    assert [target.open_existing(name) for name in (b"d", b"p", b"l", b"none", b"none/below")] == [None] * 5
    fd = target.open_existing(b"f")
    assert fd is not None
    assert os.read(fd, 10) == b"data"
    os.close(fd)
    target.refresh_file(b"f", msgspec.structs.replace(FILE, xattrs=((b"user.a", b"1"),), uid=7, gid=8))
    status = os.stat(root + b"/f")
    assert (stat.S_IMODE(status.st_mode), status.st_mtime, status.st_uid, status.st_gid) == (0o640, 5, 7, 8)
    assert os.listxattr(root + b"/f") == ["user.a"]
    for name in (b"p", b"l", b"d"):
        with pytest.raises(OSError, match="something else"):
            target.refresh_file(name, FILE)


# -- staying inside ----------------------------------------------------------------------------------


def attempts(target: TreeTarget, path: bytes) -> list[Callable[[], object]]:
    """Everything that can be done with a path, as calls."""
    return [
        lambda: put(target, path),
        lambda: target.make_directory(path),
        lambda: target.finish_directory(path, FOLDER),
        lambda: target.make_special(path, LINK),
        lambda: target.make_special(path, FIFO),
        lambda: target.make_link(path, b"mine"),
        lambda: target.make_link(b"new", path),
        lambda: target.refresh_file(path, FILE),
    ]


@pytest.mark.parametrize("overwrite", list(Overwrite))
@pytest.mark.parametrize(
    "path",
    [
        b"..", b"../outside/f", b"../outside/new", b"d/../../outside/new", b"/etc/donjon-test", b"//etc", b"",
        b".", b"d/", b"d//f", b"d/.", b"d/..", b"a\0b", b"d\0/f", b"./f", b"/",
    ],
)  # fmt: skip
def test_paths_that_lead_out_are_refused(root: bytes, overwrite: Overwrite, path: bytes) -> None:
    target = TreeTarget(root, overwrite)
    target.make_directory(b"d")
    put(target, b"mine")
    for attempt in attempts(target, path):
        with pytest.raises(DonjonError, match="not a path below"):
            attempt()
    with pytest.raises(DonjonError):
        target.open_existing(path)
    assert sorted(os.listdir(root)) == [b"d", b"mine"]


@pytest.mark.parametrize("overwrite", list(Overwrite))
@pytest.mark.parametrize("link", [b"../outside", b"/", b".", b"d"])
@pytest.mark.parametrize("planted", [True, False])
def test_links_in_the_way_are_not_followed(
    root: bytes, overwrite: Overwrite, link: bytes, planted: bool
) -> None:
    target = TreeTarget(root, overwrite)
    target.make_directory(b"d")
    put(target, b"mine")
    if planted:
        os.symlink(link, root + b"/way")
        os.symlink(link, root + b"/d/way")
    else:
        for path in (b"way", b"d/way"):
            target.make_special(path, msgspec.structs.replace(LINK, target=link))
    for path in (b"way/f", b"way/new", b"d/way/f", b"way/outside/f", b"way/f/g"):
        for attempt in attempts(target, path):
            with pytest.raises(NotADirectoryError, match="links are not followed"):
                attempt()
    with pytest.raises(NotADirectoryError):
        target.make_directory(b"way")
    for path in (b"way", b"d/way"):
        with pytest.raises(OSError, match="something else"):
            target.finish_directory(path, FOLDER)
        assert os.readlink(root + b"/" + path) == link


def test_a_link_at_the_final_place_is_replaced_or_kept(root: bytes) -> None:
    os.makedirs(root)
    os.symlink(b"../outside/f", root + b"/f")
    assert not put(TreeTarget(root, Overwrite.NEVER), b"f")
    assert os.readlink(root + b"/f") == b"../outside/f"
    target = TreeTarget(root, Overwrite.ALWAYS)
    assert target.open_existing(b"f") is None
    with pytest.raises(OSError, match="something else"):
        target.refresh_file(b"f", FILE)
    assert put(target, b"f")
    assert stat.S_ISREG(os.lstat(root + b"/f").st_mode)


def test_a_hard_link_planted_to_be_given_away_is_not_touched(place: bytes, root: bytes) -> None:
    os.makedirs(root)
    os.link(place + b"/outside/f", root + b"/f")
    target = TreeTarget(root, Overwrite.IF_DIFFERENT)
    with pytest.raises(PermissionError, match="more names"):
        target.refresh_file(b"f", msgspec.structs.replace(FILE, uid=OTHER_USER))
    assert os.stat(place + b"/outside/f").st_uid == 0
    assert put(target, b"f")
    assert not os.path.samefile(place + b"/outside/f", root + b"/f")


SWAPPER = """
import os, sys
root, outside = sys.argv[1:]
os.chdir(root)
os.symlink(outside, "link")
print("ready", flush=True)
while True:
    os.rename("dir", "aside")
    os.rename("link", "dir")
    for _ in range(20):
        os.lstat("dir")
    os.rename("dir", "link")
    os.rename("aside", "dir")
    for _ in range(20):
        os.lstat("dir")
"""


def test_a_directory_swapped_for_a_link_again_and_again(place: bytes, root: bytes) -> None:
    """The fixture sees to it that nothing appears outside, whoever wins."""
    os.makedirs(root + b"/dir")
    # A process of its own: threads take turns, and hardly ever between two system calls.
    command = [sys.executable, "-c", SWAPPER, os.fsdecode(root), os.fsdecode(place) + "/outside"]
    entered = missed = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as swapper:
        try:
            assert swapper.stdout is not None
            swapper.stdout.readline()
            for _ in range(20_000):
                target = TreeTarget(root, Overwrite.ALWAYS)
                try:
                    put(target, b"dir/new")
                    target.make_special(b"dir/link", LINK)
                    target.make_directory(b"dir/sub")
                    put(target, b"dir/f")
                    entered += 1
                except NotADirectoryError:
                    missed += 1
                except FileNotFoundError:
                    continue
                if entered >= 100 <= missed:
                    break
        finally:
            swapper.kill()
    assert entered > 0
    assert missed > 0


# -- metadata ----------------------------------------------------------------------------------------


@pytest.fixture(params=["disk", "no direct writes", "not opened again", "writes refused"])
def writes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Ways in which a file system and the kernel can take large files."""
    how: str = request.param
    if how == "no direct writes":  # as on macOS
        monkeypatch.delattr(os, "O_DIRECT")
    elif how == "not opened again":
        monkeypatch.setattr(os, "O_DIRECT", os.O_DIRECT | os.O_DIRECTORY)
    elif how == "writes refused":
        monkeypatch.setattr("donjon.targets.direct.ALIGNMENT", 100)  # EINVAL wherever that is no block
        monkeypatch.setattr("donjon.targets.writer.ALIGNMENT", 100)
    return how


def test_large_files_in_pieces_of_any_size(root: bytes, writes: str) -> None:
    randomness = random.Random(writes)
    data = bytearray(randomness.randbytes(40 * 2**20 + 123))
    hole = (9 * 2**20 + 5, 13 * 2**20 + 77)
    data[hole[0] : hole[1]] = bytes(hole[1] - hole[0])
    pieces, at = [], 0
    while at < len(data):
        size = randomness.choice([1, 4095, 4096, 70_000, 3 * 2**20 + 1, 2**20])
        end = min(at + size, hole[0] if at < hole[0] else len(data))
        if not hole[0] <= at < hole[1]:
            pieces.append((at, end))
        at = hole[1] if end == hole[0] else end
    randomness.shuffle(pieces)
    with TreeTarget(root, Overwrite.NEVER) as target, ThreadPoolExecutor(4) as pool:
        writer = target.create_file(b"large", msgspec.structs.replace(FILE, size=len(data)))
        assert writer is not None
        list(pool.map(lambda piece: writer.write_at(piece[0], data[piece[0] : piece[1]]), pieces))
        writer.finish()
    path = os.path.join(root, b"large")
    assert read(path) == data
    assert os.stat(path).st_blocks * 512 < len(data) - 3 * 2**20  # the hole is still one
    assert not [fd for fd in os.listdir("/proc/self/fd") if _is(f"/proc/self/fd/{fd}", path)]


def _is(link: str, path: bytes) -> bool:
    try:
        return os.fsencode(os.readlink(link)) == path
    except FileNotFoundError:
        return False


def test_extreme_times(root: bytes) -> None:
    root = b"/dev/shm/donjon-test-%d" % os.getpid()  # tmpfs holds any time, ext4 only until 2446
    try:
        target = TreeTarget(root, Overwrite.ALWAYS)
        for seconds in (-(1 << 40), -1, 0, (1 << 34) - 1, 1 << 40):
            entry = msgspec.structs.replace(FILE, mtime_s=seconds, mtime_ns=999_999_999)
            put(target, b"f", entry=entry)
            assert os.stat(root + b"/f").st_mtime_ns == seconds * 10**9 + 999_999_999
        for entry in (
            msgspec.structs.replace(FILE, mtime_s=1 << 70),
            msgspec.structs.replace(FILE, uid=1 << 40),
        ):
            with pytest.raises(OSError, match=r"too large|range") as caught:
                put(target, b"g", entry=entry)
            assert caught.value.filename == b"g"
        assert os.listdir(root) == [b"f"]
    finally:
        shutil.rmtree(root)


def test_inherited_acls_do_not_stay(root: bytes) -> None:
    os.makedirs(root)
    os.setxattr(root, b"system.posix_acl_default", DEFAULT_ACL)
    target = TreeTarget(root, Overwrite.NEVER)
    target.make_directory(b"d")
    put(target, b"d/f")
    put(target, b"f")
    target.make_special(b"p", FIFO)
    target.finish_directory(b"d", FOLDER)
    for name in (b"/d", b"/d/f", b"/f", b"/p"):
        assert os.listxattr(root + name) == []


def test_without_root_owners_are_warned_about_and_set_id_bits_left_out(root: bytes) -> None:
    os.makedirs(root)
    os.chown(root, OTHER_USER, OTHER_USER)
    theirs = msgspec.structs.replace(FILE, mode=0o6755, uid=7, gid=7, user="lp")
    mine = msgspec.structs.replace(FILE, mode=0o6755, uid=OTHER_USER, gid=OTHER_USER)
    with acting_as(OTHER_USER):
        target = TreeTarget(root, Overwrite.NEVER)
        target.make_directory(b"d")
        put(target, b"d/theirs", entry=theirs)
        put(target, b"d/mine", entry=mine)
        put(target, b"d/attribute", entry=msgspec.structs.replace(mine, xattrs=((b"trusted.x", b"1"),)))
        with pytest.raises(PermissionError):
            target.make_special(
                b"d/null", Entry(depth=0, name=b"n", kind=int(Kind.CHARACTER_DEVICE), rdev=259)
            )
        target.finish_directory(b"d", msgspec.structs.replace(FOLDER, uid=OTHER_USER, gid=OTHER_USER))
        warnings = target.warnings()
    modes = [
        stat.S_IMODE(os.stat(root + b"/d/" + name).st_mode) for name in (b"theirs", b"mine", b"attribute")
    ]
    assert modes == [0o755, 0o6755, 0o6755]
    assert [path for path, _ in warnings] == [b"d/theirs", b"d/attribute"]
    assert "lp" in warnings[0][1]
    assert "trusted.x" in warnings[1][1]


def test_an_acl_that_cannot_be_set_gives_the_group_no_more(
    root: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    target = TreeTarget(root, Overwrite.NEVER)
    put(
        target,
        b"f",
        entry=msgspec.structs.replace(FILE, mode=0o660, xattrs=((b"system.posix_acl_access", ACCESS_ACL),)),
    )
    put(
        target,
        b"g",
        entry=msgspec.structs.replace(FILE, mode=0o660, xattrs=((b"system.posix_acl_access", b"??"),)),
    )
    assert stat.S_IMODE(os.stat(root + b"/f").st_mode) == 0o640
    assert stat.S_IMODE(os.stat(root + b"/g").st_mode) == 0o600


def test_warnings_do_not_grow_for_ever(root: bytes) -> None:
    target = TreeTarget(root, Overwrite.NEVER, owner=False)
    for number in range(MAX_WARNINGS + 5):
        put(target, b"%d" % number, entry=msgspec.structs.replace(FILE, uid=7))
    assert len(target.warnings()) == MAX_WARNINGS + 1
    assert target.warnings()[-1] == (b"", "and 5 more")


def test_few_descriptors(root: bytes) -> None:
    before = len(os.listdir("/proc/self/fd"))
    target = TreeTarget(root, Overwrite.NEVER)
    path = b""
    for number in range(100):
        path = path + b"/%d" % number if path else b"0"
        target.make_directory(path)
        target.make_directory(path + b"-beside")
        put(target, path + b"/f")
    assert len(os.listdir("/proc/self/fd")) <= before + 6
    target.close()
    del target
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_root_that_cannot_be_one(place: bytes) -> None:
    with pytest.raises(UsageError, match="cannot restore to"):
        TreeTarget(place + b"/outside/f", Overwrite.NEVER)
