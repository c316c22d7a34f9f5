"""Trees of files with everything that a backup must bring back, and their comparison.

Building one takes root on Linux: foreign owners, devices and capabilities are among it.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import struct
from collections.abc import Iterator
from typing import NamedTuple

from donjon.core.units import KIB, MIB

NS_PER_S = 1_000_000_000

#: 60 levels of 100 characters: longer than any path that a system call takes.
DEEP_NAMES = tuple(b"%03d-" % level + b"d" * 96 for level in range(60))

USER, GROUP = 12345, 23456
BEFORE_1970_NS = -86_400 * 1000 * NS_PER_S + 123_456_789
IN_2300_NS = 10_413_792_000 * NS_PER_S + 987_654_321

_O_PATH: int = getattr(os, "O_PATH", 0)
_NO_ID = 0xFFFFFFFF


def acl(*entries: tuple[int, int, int]) -> bytes:
    """A POSIX ACL as an extended attribute, of (tag, permissions, id); ``linux/posix_acl_xattr.h``."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


#: The owner rw, user 12345 rw, the group r, the mask rw, others nothing.
ACCESS_ACL = acl((1, 6, _NO_ID), (2, 6, USER), (4, 4, _NO_ID), (0x10, 6, _NO_ID), (0x20, 0, _NO_ID))
DEFAULT_ACL = acl((1, 7, _NO_ID), (2, 5, USER), (4, 5, _NO_ID), (0x10, 5, _NO_ID), (0x20, 0, _NO_ID))
#: cap_net_raw=ep, in version 2 of ``struct vfs_cap_data``.
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


def build_gnarly_tree(path: bytes, *, seed: int = 1) -> None:
    """Make a directory at ``path`` with hostile names, odd attributes and all kinds of items.

    Raises ``OSError``, as for anybody but root.
    """
    os.mkdir(path, 0o755)  # noqa: PTH102 - a path of bytes
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in (_names, _deep, _modes, _owners, _attributes, _links, _specials, _holes):
            part(fd)
        _contents(fd, random.Random(seed))  # noqa: S311 - made-up data, the same each time
        _times(fd)
    finally:
        os.close(fd)


def write_file(dir_fd: int, name: bytes, data: bytes = b"", mode: int = 0o644) -> None:
    """Make a file with this content and exactly this mode."""
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=dir_fd)
    try:
        os.write(fd, data)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _directory(dir_fd: int, name: bytes) -> int:
    os.mkdir(name, 0o755, dir_fd=dir_fd)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)


def _names(root: int) -> None:
    fd = _directory(root, b"names")
    odd = (b"not\xff\xfe utf-8", b"new\nline", b"end\n", b" ", b"-rf", b"*", b"tab\t", b"\x01", b"...", b"\\")
    for name in (*odd, "Ünïcödé 𝄞".encode(), b"n" * 255, b"a", b"a.b", b"a-b", b"A"):
        write_file(fd, name, name)
    for name in (b"a!", b"a0", b"dir\xff\n"):
        below = _directory(fd, name)
        write_file(below, b"inside", name)
        os.close(below)
    os.mkdir(b"empty", 0o755, dir_fd=fd)
    os.close(fd)


def _deep(root: int) -> None:
    fd = os.dup(root)
    for name in DEEP_NAMES:
        below = _directory(fd, name)
        os.close(fd)
        fd = below
    write_file(fd, b"bottom", b"deep down")
    os.symlink(b"bottom", b"link", dir_fd=fd)
    os.setxattr(fd, b"user.deep", b"yes")
    os.close(fd)


def _modes(root: int) -> None:
    fd = _directory(root, b"modes")
    for mode in (0o000, 0o400, 0o777, 0o644, 0o4755, 0o2755, 0o6711, 0o1644):
        write_file(fd, b"file-%04o" % mode, b"%o" % mode, mode)
    for mode in (0o000, 0o700, 0o1777, 0o2775, 0o555):
        below = _directory(fd, b"dir-%04o" % mode)
        write_file(below, b"inside")
        os.fchmod(below, mode)
        os.close(below)
    os.close(fd)


def _owners(root: int) -> None:
    fd = _directory(root, b"owners")
    write_file(fd, b"foreign", b"theirs")
    os.chown(b"foreign", USER, GROUP, dir_fd=fd)
    write_file(fd, b"setuid", b"theirs")
    os.chown(b"setuid", USER, GROUP, dir_fd=fd)
    os.chmod(b"setuid", 0o6755, dir_fd=fd)  # noqa: S103 - to be restored
    os.symlink(b"foreign", b"link", dir_fd=fd)
    os.chown(b"link", USER, GROUP, dir_fd=fd, follow_symlinks=False)
    os.mkdir(b"dir", 0o750, dir_fd=fd)
    os.chown(b"dir", USER, GROUP, dir_fd=fd)
    os.close(fd)


def _attributes(root: int) -> None:
    fd = _directory(root, b"attributes")
    for name, attributes in {
        b"user": {b"user.a": b"1", b"user.empty": b"", b"user.binary": bytes(range(256))},
        b"acl": {b"system.posix_acl_access": ACCESS_ACL},
        b"capable": {b"security.capability": CAPABILITY},
        b"trusted": {b"trusted.donjon": b"t"},
    }.items():
        write_file(fd, name, name)
        for attribute, value in attributes.items():
            _set(fd, name, attribute, value)
    for directory in (b"default", b"default/below"):
        os.mkdir(directory, 0o750, dir_fd=fd)
        _set(fd, directory, b"system.posix_acl_default", DEFAULT_ACL)
    write_file(fd, b"default/inherits", b"", 0o640)
    _set(fd, b"default", b"user.dir", b"d")
    os.symlink(b"nowhere", b"link", dir_fd=fd)
    _set(fd, b"link", b"trusted.link", b"l")
    os.close(fd)


def _set(dir_fd: int, name: bytes, attribute: bytes, value: bytes) -> None:
    os.setxattr(b"/proc/self/fd/%d/" % dir_fd + name, attribute, value, follow_symlinks=False)


def _links(root: int) -> None:
    fd = _directory(root, b"links")
    write_file(fd, b"one", b"several names")
    os.link(b"one", b"two", src_dir_fd=fd, dst_dir_fd=fd)
    os.mkdir(b"elsewhere", 0o755, dir_fd=fd)
    os.link(b"one", b"elsewhere/three", src_dir_fd=fd, dst_dir_fd=fd)
    for name, target in {
        b"dangling": b"no/such/place",
        b"absolute": b"/etc/passwd",
        b"relative": b"elsewhere/three",
        b"up": b"../../..",
        b"to-dir": b"elsewhere",
        b"not-utf8": b"\xff\n",
        b"long": b"x" * 4000,
    }.items():
        os.symlink(target, name, dir_fd=fd)
    os.close(fd)


def _specials(root: int) -> None:
    fd = _directory(root, b"specials")
    for name, mode, device in (
        (b"fifo", stat.S_IFIFO | 0o620, 0),
        (b"socket", stat.S_IFSOCK | 0o755, 0),
        (b"null", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
        (b"block", stat.S_IFBLK | 0o660, os.makedev(259, 1_000_000)),
    ):
        os.mknod(name, mode, device, dir_fd=fd)
        os.chmod(name, stat.S_IMODE(mode), dir_fd=fd)
    os.chown(b"fifo", USER, GROUP, dir_fd=fd)
    os.close(fd)


def _holes(root: int) -> None:
    fd = _directory(root, b"holes")
    block = b"\xa5" * (64 * KIB)
    for name, size, places in (
        (b"start", 4 * MIB + 64 * KIB, (4 * MIB,)),
        (b"middle", 4 * MIB + 64 * KIB, (0, 4 * MIB)),
        (b"end", 4 * MIB + 1, (0,)),
        (b"all", 4 * MIB, ()),
        (b"many", 8 * MIB, tuple(range(0, 8 * MIB, 512 * KIB))),
        (b"huge", 1 << 40, (1 << 39,)),
    ):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=fd)
        for place in places:
            os.pwrite(file, block, place)
        os.ftruncate(file, size)
        os.close(file)
    os.close(fd)


def _contents(root: int, randomness: random.Random) -> None:
    fd = _directory(root, b"contents")
    for size in (0, 1, 4095, 4096, 4097, MIB, MIB + 1, 3 * MIB + 12345):
        write_file(fd, b"%d" % size, randomness.randbytes(size))
    write_file(fd, b"zeros", bytes(128 * KIB))
    os.close(fd)


def _times(root: int) -> None:
    fd = _directory(root, b"times")
    for name, time_ns in {
        b"epoch": 0,
        b"before": BEFORE_1970_NS,
        b"one-before": -1,
        b"later": IN_2300_NS,
    }.items():
        write_file(fd, name)
        os.symlink(name, name + b"-link", dir_fd=fd)
        os.mkdir(name + b"-dir", dir_fd=fd)
        for item in (name, name + b"-link", name + b"-dir"):
            os.utime(item, ns=(time_ns, time_ns), dir_fd=fd, follow_symlinks=False)
    os.close(fd)


class _Look(NamedTuple):
    """Everything about one item that a restore has to bring back."""

    status: os.stat_result
    xattrs: dict[str, bytes]
    target: bytes
    extents: tuple[tuple[int, int], ...]


def compare_trees(first: bytes, second: bytes) -> list[str]:
    """Every difference in names, kinds, bytes, holes, owners, modes, times, attributes and hard links.

    The two directories themselves are compared by what is in them only. Raises ``OSError``.
    """
    differences: list[str] = []
    pairs: list[tuple[tuple[int, int], tuple[int, int], bytes]] = []
    one, two = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (first, second))
    try:
        for line in _compare_directories(one, two, b"", pairs):
            differences.append(line)
    finally:
        os.close(one)
        os.close(two)
    there: dict[tuple[int, int], tuple[int, int]] = {}
    back: dict[tuple[int, int], tuple[int, int]] = {}
    for a, b, path in pairs:
        if there.setdefault(a, b) != b or back.setdefault(b, a) != a:
            differences.append(f"{path!r}: hard links differ")
    return differences


def _compare_directories(
    one: int, two: int, path: bytes, pairs: list[tuple[tuple[int, int], tuple[int, int], bytes]]
) -> Iterator[str]:
    names, others = ({os.fsencode(name) for name in os.listdir(fd)} for fd in (one, two))  # noqa: PTH208 - fds
    for name in sorted(names ^ others):
        yield f"{path + name!r}: only in the {'first' if name in names else 'second'}"
    for name in sorted(names & others):
        a, b = _look(one, name), _look(two, name)
        yield from _compare_items(a, b, path + name)
        if stat.S_IFMT(a.status.st_mode) != stat.S_IFMT(b.status.st_mode):
            continue
        if stat.S_ISDIR(a.status.st_mode):
            below = [os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd) for fd in (one, two)]
            yield from _compare_directories(below[0], below[1], path + name + b"/", pairs)
            os.close(below[0])
            os.close(below[1])
        else:
            pairs.append(
                ((a.status.st_dev, a.status.st_ino), (b.status.st_dev, b.status.st_ino), path + name)
            )
        if stat.S_ISREG(a.status.st_mode) and not _same_bytes((one, two), name, (a, b)):
            yield f"{path + name!r}: content differs"


def _compare_items(a: _Look, b: _Look, path: bytes) -> Iterator[str]:
    fields = ["st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_rdev"]
    if not stat.S_ISDIR(a.status.st_mode):
        fields += ["st_size", "st_nlink"]
    for field in fields:
        left, right = getattr(a.status, field), getattr(b.status, field)
        if left != right:
            text = f"{left:o} and {right:o}" if field == "st_mode" else f"{left} and {right}"
            yield f"{path!r}: {field} {text}"
    for what in ("xattrs", "target", "extents"):
        if getattr(a, what) != getattr(b, what):
            yield f"{path!r}: {what} {getattr(a, what)!r} and {getattr(b, what)!r}"


def _look(dir_fd: int, name: bytes) -> _Look:
    fd = os.open(name, _O_PATH | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        status = os.fstat(fd)
        place = b"/proc/self/fd/%d" % fd
        xattrs = {attribute: os.getxattr(place, attribute) for attribute in os.listxattr(place)}
        target = os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(status.st_mode) else b""
    finally:
        os.close(fd)
    return _Look(status, xattrs, target, _extents(dir_fd, name, status))


def _extents(dir_fd: int, name: bytes, status: os.stat_result) -> tuple[tuple[int, int], ...]:
    if not stat.S_ISREG(status.st_mode):
        return ()
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=dir_fd)
    extents: list[tuple[int, int]] = []
    end = 0
    try:
        while end < status.st_size:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
            extents.append((start, end))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
    finally:
        os.close(fd)
    return tuple(extents)


def _same_bytes(dir_fds: tuple[int, int], name: bytes, looks: tuple[_Look, _Look]) -> bool:
    files = [os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd) for fd in dir_fds]
    try:
        for start, end in sorted({*looks[0].extents, *looks[1].extents}):
            for at in range(start, end, MIB):
                size = min(MIB, end - at)
                if os.pread(files[0], size, at) != os.pread(files[1], size, at):
                    return False
        return looks[0].status.st_size == looks[1].status.st_size
    finally:
        os.close(files[0])
        os.close(files[1])
