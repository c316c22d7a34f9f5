"""How items of a point look: a line like that of `ls -l`, or members of a JSON object."""

from __future__ import annotations

import stat
from datetime import UTC, datetime

from donjon.cli.output import shown, visible
from donjon.core.clock import iso
from donjon.format.entries import Entry, Kind

KIND_NAMES: dict[int, str] = {
    Kind.FILE: "file",
    Kind.DIRECTORY: "directory",
    Kind.SYMLINK: "symlink",
    Kind.FIFO: "fifo",
    Kind.SOCKET: "socket",
    Kind.CHARACTER_DEVICE: "character-device",
    Kind.BLOCK_DEVICE: "block-device",
}

_FORMATS: dict[int, int] = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
}


def item_line(path: bytes, entry: Entry) -> str:
    """Mode, owner, group, size in bytes, time (UTC), path."""
    mode = stat.filemode(_FORMATS[entry.kind] | entry.mode)
    target = ""
    if entry.kind == Kind.SYMLINK:
        target = f" -> {visible(entry.target)}"
    elif entry.kind == Kind.DIRECTORY:
        target = "/"
    owner, group = entry.user or str(entry.uid), entry.group or str(entry.gid)
    return f"{mode} {owner:<8} {group:<8} {entry.size:>13} {minute(entry.mtime_s)} {shown(path)}{target}"


def minute(unix_seconds: int) -> str:
    """``2026-11-24 10:00:00`` in UTC; far times fall back to the number."""
    try:
        return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"@{unix_seconds:<18}"


def item_data(path: bytes, entry: Entry) -> dict[str, object]:
    """The same for JSON. ``path_hex`` is there for a path that is not UTF-8, whose text has escapes."""
    data: dict[str, object] = {
        "path": shown(path),
        "type": KIND_NAMES[entry.kind],
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "user": entry.user,
        "group": entry.group,
        "size": entry.size,
        "mtime": iso(entry.mtime_s),
        "mtime_ns": entry.mtime_ns,
        "links": entry.links,
    }
    if entry.kind == Kind.SYMLINK:
        data["target"] = visible(entry.target)
    if entry.xattrs:
        data["xattrs"] = [visible(name) for name, _ in entry.xattrs]
    if not isvisible(path):
        data["path_hex"] = path.hex()
    return data


def isvisible(path: bytes) -> bool:
    """Whether a path is shown as it is."""
    try:
        return path.decode().isprintable()
    except UnicodeDecodeError:
        return False
