"""The kernel's immutable flag (``chattr +i``): not even root changes or deletes such a file unasked.

Setting and lifting it needs CAP_LINUX_IMMUTABLE and a file system that has it (ext4, XFS, Btrfs, F2FS,
tmpfs since Linux 6.6). See ioctl_iflags(2).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys

# _IOR('f', 1, long) and _IOW('f', 2, long) of <linux/fs.h> in the encoding of x86, ARM, RISC-V and s390;
# elsewhere the kernel answers ENOTTY and the flag counts as unavailable. The kernel reads and writes an
# int in spite of the declared long.
_LONG_BYTES = struct.calcsize("l")
_GET_FLAGS = 2 << 30 | _LONG_BYTES << 16 | ord("f") << 8 | 1
_SET_FLAGS = 1 << 30 | _LONG_BYTES << 16 | ord("f") << 8 | 2
_INT = struct.Struct("=i")
_IMMUTABLE = 0x10


def set_immutable(descriptor: int, *, on: bool) -> None:
    """Set or lift the flag of an open file. Raises ``OSError`` as ioctl(2) does."""
    before = _INT.unpack_from(fcntl.ioctl(descriptor, _GET_FLAGS, bytes(_LONG_BYTES)))[0]
    after = before | _IMMUTABLE if on else before & ~_IMMUTABLE
    if after != before:
        fcntl.ioctl(descriptor, _SET_FLAGS, _INT.pack(after).ljust(_LONG_BYTES, b"\0"))


def is_immutable(descriptor: int) -> bool:
    """Whether an open file has the flag; False where there is no such flag."""
    try:
        flags = _INT.unpack_from(fcntl.ioctl(descriptor, _GET_FLAGS, bytes(_LONG_BYTES)))[0]
    except OSError:
        return False
    return bool(flags & _IMMUTABLE)


def can_set_immutable(descriptor: int) -> bool:
    """Whether this process may set and lift the flag of this file; leaves it lifted."""
    if sys.platform != "linux":
        return False
    try:
        set_immutable(descriptor, on=True)
        set_immutable(descriptor, on=False)
    except OSError:
        return False
    return True


def remove_leftover(path: str) -> None:
    """Unlink a temporary file that a killed process left, flag or not. Failures are ignored.

    A file with a second name is an object that has been published: its flag stays.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_nlink == 1 and is_immutable(descriptor):
                set_immutable(descriptor, on=False)
        finally:
            os.close(descriptor)
        os.unlink(path)
