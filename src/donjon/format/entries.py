"""The entry: one file, directory or other item of a tree, as the metadata stream holds it.

See ``docs/format.md``, "Metadata". A stream lists a tree in pre-order with the names of each
directory in ascending byte order. An entry has its own name and depth only; its path follows from the
directories before it, so that no entry can name a place outside of the tree.
"""

from __future__ import annotations

import enum

import msgspec

CHUNK_ID_BYTES = 32
MAX_STATISTICS_BYTES = 400
MAX_NAME_BYTES = 4096
#: A path has at most so many names, so that no tree makes paths that fill the memory of its readers.
MAX_DEPTH = 4096
#: What the attributes of an item may add up to; whoever makes an entry leaves more of them out.
MAX_XATTR_BYTES = 1 << 20


class Kind(enum.IntEnum):
    """What an entry is."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    FIFO = 4
    SOCKET = 5
    CHARACTER_DEVICE = 6
    BLOCK_DEVICE = 7


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One item of a tree.

    ``depth`` is 0 for the items right below the root. Times are a floor second and nanoseconds
    0..999,999,999, so that every time that a kernel can hold fits. ``mode`` has the twelve permission
    bits only. ``extents`` are the (offset, length) pairs that hold data, ascending, or None for a file
    without holes; ``chunks`` are the ids of the chunks of that data, end to end. With ``indirect``, they
    are the ids of chunks that hold such ids instead. ACLs and capabilities are ``xattrs``.
    Entries of one point with the same ``device`` and ``inode`` and ``links`` over 1 are hard links of
    each other.
    """

    depth: int
    name: bytes
    kind: int
    mode: int = 0
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    mtime_s: int = 0
    mtime_ns: int = 0
    ctime_s: int = 0
    ctime_ns: int = 0
    device: int = 0
    inode: int = 0
    links: int = 1
    size: int = 0
    chunks: bytes = b""
    indirect: bool = False
    extents: tuple[tuple[int, int], ...] | None = None
    target: bytes = b""
    rdev: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    statistics: bytes = b""
