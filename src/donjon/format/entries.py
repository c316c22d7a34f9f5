"""The entry: one file, directory or other item of a tree, as the metadata stream holds it.

See ``docs/format.md``, "Metadata". A stream lists a tree in pre-order with the names of each
directory in ascending byte order. An entry has its own name and depth only; its path follows from the
directories before it, so that no entry can name a place outside of the tree.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

CHUNK_ID_BYTES = 32
MAX_STATISTICS_BYTES = 400
MAX_NAME_BYTES = 4096
#: A path has at most so many names, so that no tree makes paths that fill the memory of its readers.
MAX_DEPTH = 4096
#: What the attributes of an item may add up to; whoever makes an entry leaves more of them out.
MAX_XATTR_BYTES = 1 << 20
#: Attributes with such names are facts of the source that Donjon keeps, and no attributes of a file.
OWN_ATTRIBUTES = b"donjon."
#: Of a volume: its chunks are cut at multiples of so many bytes, written in decimal digits.
EXTENT_ATTRIBUTE = b"donjon.extent_bytes"


# What a decoder checks, without a line of Python for each entry.
_U32 = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]
_I63 = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Signed = Annotated[int, msgspec.Meta(le=(1 << 63) - 1)]
_Unsigned = Annotated[int, msgspec.Meta(ge=0)]
_Nanoseconds = Annotated[int, msgspec.Meta(ge=0, lt=1_000_000_000)]


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

    depth: Annotated[int, msgspec.Meta(ge=0, lt=MAX_DEPTH)]
    name: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_NAME_BYTES)]
    kind: Annotated[int, msgspec.Meta(ge=1, le=7)]  # a Kind
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o7777)] = 0
    uid: _U32 = 0
    gid: _U32 = 0
    user: str = ""
    group: str = ""
    mtime_s: _Signed = 0
    mtime_ns: _Nanoseconds = 0
    ctime_s: _Signed = 0
    ctime_ns: _Nanoseconds = 0
    device: _Unsigned = 0
    inode: _Unsigned = 0
    links: _Unsigned = 1
    size: _I63 = 0
    chunks: bytes = b""
    indirect: bool = False
    extents: tuple[tuple[int, int], ...] | None = None
    target: bytes = b""
    rdev: _Unsigned = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    statistics: Annotated[bytes, msgspec.Meta(max_length=MAX_STATISTICS_BYTES)] = b""

    def attribute(self, name: bytes) -> bytes | None:
        """The value of one extended attribute."""
        return next((value for known, value in self.xattrs if known == name), None)

    @property
    def data_bytes(self) -> int:
        """How many bytes of the file are data; the rest are holes."""
        return self.size if self.extents is None else sum(length for _, length in self.extents)
