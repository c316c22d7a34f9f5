"""Giving owner, extended attributes, mode and times to what was restored, in the order that works.

Changing the owner clears capabilities and set-id bits, so it comes first; a mode set after an ACL is the
ACL's mask, as it was when both were read; everything changes times, so they come last.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from donjon.format.entries import OWN_ATTRIBUTES, Entry, Kind

NS_PER_S = 1_000_000_000

#: At most this many warnings are kept; the rest is counted.
MAX_WARNINGS = 1000

_NO_ID = 0xFFFFFFFF  # chown(2): leaves the id as it is
_ACCESS_ACL = b"system.posix_acl_access"
#: Attributes that belong to the backup, so that those it does not know are removed from what was there.
_OURS = (b"user.", b"trusted.", b"system.posix_acl_", b"security.capability")

#: A descriptor, or the ``/proc/self/fd`` path of an O_PATH descriptor.
Handle = int | bytes


class Attributes:
    """Sets metadata. With ``owner``, owners and groups too, by their numbers; names are not looked up.

    Without, only a group of this process is given. A set-id bit is set only if its owner or group is right.
    """

    def __init__(self, *, owner: bool) -> None:
        self._owner = owner
        self._groups = frozenset(os.getgroups())
        self._warnings: list[tuple[bytes, str]] = []
        self._more = 0

    def warn(self, path: bytes, reason: str) -> None:
        """Note what could not be restored, though the item was."""
        if len(self._warnings) < MAX_WARNINGS:
            self._warnings.append((path, reason))
        else:
            self._more += 1

    def warnings(self) -> list[tuple[bytes, str]]:
        """(path, reason) of what could not be set, the first thousand; the last tells how many follow."""
        found = list(self._warnings)
        if self._more:
            found.append((b"", f"and {self._more} more"))
        return found

    def apply(self, handle: Handle, path: bytes, entry: Entry, *, clear: bool = False) -> None:
        """Set everything that ``entry`` says. ``clear`` removes attributes that it does not have.

        Raises ``OSError``.
        """
        unset = self._give(handle, path, entry)
        wanted = dict(entry.xattrs) if entry.xattrs else {}
        if wanted:
            wanted = {name: value for name, value in wanted.items() if not name.startswith(OWN_ATTRIBUTES)}
        if clear:
            self._clear(handle, path, wanted)
        mode = entry.mode & 0o7777 & ~unset
        for name, value in wanted.items():
            try:
                os.setxattr(handle, name, value)
            except (OSError, AttributeError) as error:
                self.warn(path, f"attribute {os.fsdecode(name)}: {getattr(error, 'strerror', error)}")
                if name == _ACCESS_ACL:
                    mode &= ~0o070 | _group_bits(value)
        if entry.kind != Kind.SYMLINK:
            os.chmod(handle, mode)
        time_ns = entry.mtime_s * NS_PER_S + entry.mtime_ns
        os.utime(handle, ns=(time_ns, time_ns))

    def _give(self, handle: Handle, path: bytes, entry: Entry) -> int:
        """Set owner and group as far as allowed; the set-id bits that must not be set then."""
        uid, gid = entry.uid, entry.gid
        if not (0 <= uid < _NO_ID and 0 <= gid < _NO_ID):
            raise OSError(errno.EINVAL, f"owner {uid}:{gid} is out of range", path)
        if self._owner:
            try:
                os.chown(handle, uid, gid)
            except PermissionError as error:
                self.warn(path, f"owner {uid}:{gid}: {error.strerror}")
            else:
                return 0
        status = os.stat(handle)
        unset = 0
        if status.st_uid != uid:
            if not self._owner:
                self.warn(path, f"owner {uid} ({entry.user}) can be given by root only")
            unset |= stat.S_ISUID
        if status.st_gid != gid and not self._give_group(handle, gid):
            unset |= stat.S_ISGID
        return unset

    def _give_group(self, handle: Handle, gid: int) -> bool:
        if gid not in self._groups:
            return False
        try:
            os.chown(handle, -1, gid)
        except PermissionError:
            return False
        return True

    def _clear(self, handle: Handle, path: bytes, wanted: dict[bytes, bytes]) -> None:
        if not hasattr(os, "listxattr"):
            return
        try:
            there = [os.fsencode(name) for name in os.listxattr(handle)]
        except OSError:
            return  # a file system without attributes
        for name in there:
            if name not in wanted and name.startswith(_OURS):
                try:
                    os.removexattr(handle, name)
                except OSError as error:
                    self.warn(path, f"attribute {os.fsdecode(name)} stays: {error.strerror}")


def _group_bits(acl: bytes) -> int:
    """The owning group's bits in a POSIX ACL; 0 if it is none.

    Where the ACL could not be set, the mode's group bits would be its mask, which may allow more. See
    ``linux/posix_acl_xattr.h``: a version, then (tag, permissions, id), little endian.
    """
    if len(acl) % 8 != 4:
        return 0
    for tag, bits, _ in struct.iter_unpack("<HHI", acl[4:]):
        if tag == 0x04:  # ACL_GROUP_OBJ
            return (int(bits) & 0o7) << 3
    return 0
