"""What is asked of btrfs: requests to the kernel through descriptors, so that no path is looked up twice.

Numbers and layouts: https://github.com/torvalds/linux/blob/v6.1/include/uapi/linux/btrfs.h
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from dataclasses import dataclass
from typing import Final

from donjon.core.errors import DonjonError, PermissionMissing, SnapshotFailed

_SNAP_CREATE_V2: Final = 0x50009417
_SNAP_DESTROY: Final = 0x5000940F
_GET_SUBVOL_INFO: Final = 0x81F8943C
_READ_ONLY: Final = 1 << 1
#: The inode of the root of every subvolume (BTRFS_FIRST_FREE_OBJECTID).
_ROOT_INODE: Final = 256
_PERMISSION: Final = "CAP_SYS_ADMIN"
DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Subvolume:
    """What the kernel tells of one. ``created_at`` is in Unix seconds."""

    uuid: str
    parent_uuid: str
    created_at: int
    read_only: bool


def look(fd: int) -> Subvolume | None:
    """The subvolume whose root is open; None if that is no root of one."""
    if os.fstat(fd).st_ino != _ROOT_INODE:
        return None
    answer = bytearray(504)
    try:
        fcntl.ioctl(fd, _GET_SUBVOL_INFO, answer)
    except OSError as error:
        if error.errno in {errno.ENOTTY, errno.EINVAL, errno.ENOSYS}:
            return None
        raise
    flags = struct.unpack_from("<Q", answer, 288)[0]
    seconds = struct.unpack_from("<Q", answer, 392)[0]
    return Subvolume(answer[296:312].hex(), answer[312:328].hex(), seconds, bool(flags & 1))


def take(volume_fd: int, folder_fd: int, name: bytes) -> None:
    """Take a read-only snapshot of an open subvolume, as ``name`` in an open folder. Raises ``OSError``."""
    asked = struct.pack("<qQQ32s4040s", volume_fd, 0, _READ_ONLY, b"", name)
    fcntl.ioctl(folder_fd, _SNAP_CREATE_V2, bytearray(asked))


def destroy(folder_fd: int, name: bytes) -> None:
    """Delete the subvolume ``name`` in an open folder, with all that is in it. Raises ``OSError``."""
    fcntl.ioctl(folder_fd, _SNAP_DESTROY, bytearray(struct.pack("<q4088s", 0, name)))


def find_volume(path: str) -> str | None:
    """The root of the subvolume that a path lies in; None if it does not lie on btrfs.

    Raises ``SnapshotFailed`` if it does not exist.
    """
    place = os.path.realpath(path)
    while True:
        try:
            fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except NotADirectoryError:
            place = os.path.dirname(place)
            continue
        except OSError as error:
            raise translated(error, place, "look at") from error
        try:
            if look(fd) is not None:
                return place
        finally:
            os.close(fd)
        if place == "/":
            return None
        place = os.path.dirname(place)


def translated(error: OSError, what: str, action: str) -> DonjonError:
    """Our error for one of the kernel."""
    reason = f"{what}: cannot {action} it: {error.strerror or error}"
    if error.errno in {errno.EPERM, errno.EACCES}:
        return PermissionMissing(
            f"{what}: cannot {action} it: no permission {_PERMISSION}",
            hint=f"Run it as root, or with {_PERMISSION}.",
        )
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        hint = "Is it mounted? Correct the plan if it was deleted on purpose."
        return SnapshotFailed(f"{what}: is not there", hint=hint)
    hint = "Look at the file system: is it full, read-only or damaged?"
    return SnapshotFailed(
        reason, hint=hint, retryable=error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EBUSY}
    )
