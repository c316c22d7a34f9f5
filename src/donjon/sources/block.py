"""Block devices and image files of this host, each as one file."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from donjon.core.errors import PermissionMissing, Refused, UsageError
from donjon.core.units import MIB, format_size
from donjon.format.entries import Entry, Kind
from donjon.sources.block_hints import GENERATION_ATTRIBUTE, ChangedBlocks
from donjon.sources.block_use import writable_mounts
from donjon.sources.content import find_extents
from donjon.sources.item import NS_PER_S, Context
from donjon.sources.volumes import VolumeItem, VolumeSource

#: Bad regions are read again in pieces of this size, and what fails then is taken for lost. It is the
#: physical sector of today's disks; one of 512 bytes beside a bad one is lost with it.
SECTOR_BYTES = 4096
_MAX_BAD_TOLD = 5
#: What a disk says of a sector that it cannot read.
_BAD = frozenset({errno.EIO, getattr(errno, "ENODATA", errno.EIO), errno.EILSEQ})

#: As ``os.preadv``.
Read = Callable[[int, Sequence[memoryview], int], int]


@dataclass(frozen=True, slots=True)
class BlockOptions:
    """How devices are read. ``even_mounted`` takes those that are in use.

    With ``zero_bad_sectors`` what cannot be read is stored as zeros, and told. ``read`` is the system call.
    """

    even_mounted: bool = False
    zero_bad_sectors: bool = False
    changed: Mapping[bytes, ChangedBlocks] = field(default_factory=dict)
    read: Read = os.preadv


class BlockSource(VolumeSource):
    """The devices and image files at ``paths``, which are absolute.

    Raises ``UsageError`` for what is none, and ``Refused`` for one that is mounted for writing, unless the
    options allow it.
    """

    def __init__(self, paths: Sequence[bytes], options: BlockOptions | None = None) -> None:
        options = options or BlockOptions()
        context = Context()
        super().__init__([BlockItem(path, options, context) for path in paths])


class BlockItem(VolumeItem):
    """One device or image file."""

    def __init__(self, path: bytes, options: BlockOptions, context: Context) -> None:
        super().__init__(path)
        self._options = options
        self._context = context
        self._status = _looked_at(path)
        self._size = _size_of(path)
        self._changed = options.changed.get(path)
        self._opened: OpenBlock | None = None
        if not options.even_mounted and (mounts := writable_mounts(path, self._status)):
            msg = f"{os.fsdecode(path)}: is mounted for writing at {', '.join(mounts)}"
            hint = (
                "What is written while it is read would tear the backup. Back up a snapshot of it, mount it "
                "read-only, or take that risk with --even-mounted."
            )
            raise Refused(msg, hint=hint)

    @property
    def size(self) -> int:
        """In bytes, as it was seen last."""
        return self._size

    def describe(self) -> Entry:
        """A regular file with owner and mode of the device. Times are those of an image file only."""
        status = self._status
        is_image = stat.S_ISREG(status.st_mode)
        mtime_s, mtime_ns = divmod(status.st_mtime_ns if is_image else 0, NS_PER_S)
        attributes: tuple[tuple[bytes, bytes], ...] = ()
        lost = self._opened is not None and self._opened.has_lost
        if self._changed is not None and not lost:  # else the next point would keep the zeros, untold
            attributes = ((GENERATION_ATTRIBUTE, self._changed.generation.encode()),)
        return Entry(
            depth=self.depth,
            name=self.name,
            kind=int(Kind.FILE),
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            user=self._context.user(status.st_uid),
            group=self._context.group(status.st_gid),
            mtime_s=mtime_s,
            mtime_ns=mtime_ns,
            size=self._size,
            xattrs=attributes,
        )

    def open_volume(self) -> OpenBlock:
        """Open for reading. Raises ``OSError``."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._status = os.fstat(fd)
            opened = OpenBlock(fd, self.path, self._status, self._options, self._changed)
        except BaseException:
            os.close(fd)
            raise
        self._size = opened.size
        self._opened = opened
        return opened


class OpenBlock:
    """An open device or image file. ``fd`` belongs to it."""

    parallel = 1
    extent_bytes = 1 * MIB
    notes: Sequence[str] = ()

    def __init__(
        self,
        fd: int,
        path: bytes,
        status: os.stat_result,
        options: BlockOptions,
        changed: ChangedBlocks | None,
    ) -> None:
        self._fd = fd
        self._path = path
        self._status = status
        self._read = options.read
        self._zero_bad_sectors = options.zero_bad_sectors
        self._changed = changed
        self._bad: list[int] = []
        self.size = os.lseek(fd, 0, os.SEEK_END)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    @property
    def has_lost(self) -> bool:
        """Whether zeros stand for bad sectors."""
        return bool(self._bad)

    def data(self) -> Iterable[tuple[int, int]]:
        """Where an image file has data; a device may have some everywhere."""
        everything = ((0, self.size),) if self.size else ()
        if not stat.S_ISREG(self._status.st_mode):
            return everything
        found = find_extents(self._fd, self.size)
        return everything if found is None else found

    def changes_since(self, previous: Entry) -> Iterable[tuple[int, int]] | None:
        """What the list says, if it goes on from where the previous point was made."""
        changed = self._changed
        if changed is None or changed.since is None:
            return None
        if previous.attribute(GENERATION_ATTRIBUTE) != changed.since.encode():
            path = os.fsdecode(self._path)
            note = (
                f"{path}: was read in full: the list of changed blocks goes on from {changed.since!r}, and "
            )
            self.notes = (note + "the previous point was not made from that",)
            return None
        grown = ((previous.size, self.size - previous.size),) if self.size > previous.size else ()
        return (*(row for row in changed.ranges if row[0] < previous.size), *grown)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer. Raises ``OSError`` for a bad sector, and for a device that has become smaller."""
        done = 0
        while done < len(buffer):
            try:
                count = self._read(self._fd, [buffer[done:]], offset + done)
            except OSError as error:
                if error.errno not in _BAD:
                    raise
                if not self._zero_bad_sectors:
                    msg = f"cannot be read at offset {offset + done}: {error.strerror}"
                    raise OSError(error.errno, msg, self._path) from error
                count = self._rescue(offset + done, buffer[done:])
            if count == 0:
                now = os.lseek(self._fd, 0, os.SEEK_END)
                if now >= offset + len(buffer):
                    msg = f"cannot be read at offset {offset + done}: there is no data"
                else:
                    msg = f"became smaller while it was read: {self.size} bytes, then {now}"
                raise OSError(errno.EIO, msg, self._path)
            done += count

    def close(self) -> list[str]:
        """What has happened to it meanwhile."""
        fd, self._fd = self._fd, -1
        try:
            now, size = os.fstat(fd), os.lseek(fd, 0, os.SEEK_END)
        finally:
            os.close(fd)
        problems = self._lost()
        if size != self.size:
            text = "grew" if size > self.size else "shrank"
            problems.append(
                f"{text} from {self.size} to {size} bytes while it was read; stored with its first size"
            )
        elif stat.S_ISREG(now.st_mode) and (now.st_mtime_ns, now.st_ctime_ns) != (
            self._status.st_mtime_ns,
            self._status.st_ctime_ns,
        ):
            problems.append("changed while it was read; what is stored may be of no one moment")
        return problems

    def _rescue(self, offset: int, buffer: memoryview) -> int:
        """Read a region with bad sectors piece by piece; zeros stand for what is lost."""
        piece = buffer[: SECTOR_BYTES - offset % SECTOR_BYTES]
        try:
            return self._read(self._fd, [piece], offset)
        except OSError as error:
            if error.errno not in _BAD:
                raise
        piece[:] = bytes(len(piece))
        self._bad.append(offset)
        return len(piece)

    def _lost(self) -> list[str]:
        if not self._bad:
            return []
        bad = sorted(set(self._bad))
        where = ", ".join(str(offset) for offset in bad[:_MAX_BAD_TOLD])
        more = f" and {len(bad) - _MAX_BAD_TOLD} more places" if len(bad) > _MAX_BAD_TOLD else ""
        lost = format_size(len(bad) * SECTOR_BYTES)
        return [f"{lost} could not be read and are stored as zeros, at offset {where}{more}"]


def _looked_at(path: bytes) -> os.stat_result:
    text = os.fsdecode(path)
    try:
        status = os.stat(path)
    except OSError as error:
        msg = f"{text}: {error.strerror}"
        raise UsageError(msg, hint="Name block devices and image files that are there.") from error
    if stat.S_ISBLK(status.st_mode) or stat.S_ISREG(status.st_mode):
        return status
    msg = f"{text}: is neither a block device nor an image file"
    raise UsageError(msg, hint="Back up files and folders without --device.")


def _size_of(path: bytes) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError as error:
        msg = f"{os.fsdecode(path)}: may not be read"
        raise PermissionMissing(
            msg, hint="Reading a device needs root, or membership in its group."
        ) from error
    except OSError as error:
        msg = f"{os.fsdecode(path)}: {error.strerror}"
        raise UsageError(msg, hint="Name devices that have a medium.") from error
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)
