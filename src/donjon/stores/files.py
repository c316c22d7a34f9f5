"""What a store in a folder needs of the operating system: durable writes, lock attributes, a sorted walk."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator

from donjon.core.errors import IntegrityFailure
from donjon.stores.base import is_name_part

#: The extended attribute with the end of an object's lock, in decimal Unix seconds.
LOCK_ATTRIBUTE = "user.donjon.retain_until"

_NO_ATTRIBUTE = {errno.ENODATA, errno.ENOTSUP}


def sync(descriptor: int) -> None:
    """Bring a file to the medium; macOS keeps data in the drive's cache otherwise (fsync(2) there)."""
    full_sync = getattr(fcntl, "F_FULLFSYNC", None)
    if full_sync is None:
        os.fsync(descriptor)
    else:
        fcntl.fcntl(descriptor, full_sync)


def sync_folder(path: str) -> None:
    """Bring the names in a folder to the medium."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def walk(root: str, folder: str, prefix: str) -> Iterator[str]:
    """The names under ``folder`` (empty, or ending with a slash) that start with ``prefix``, sorted.

    A folder sorts as its name with the slash, which makes the order that of whole names. A folder that
    vanishes has no names.
    """
    found = []
    try:
        with os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                if is_name_part(entry.name):
                    if entry.is_dir(follow_symlinks=False):
                        found.append(f"{folder}{entry.name}/")
                    elif entry.is_file(follow_symlinks=False):
                        found.append(folder + entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in sorted(found):
        if name.startswith(prefix):
            if name.endswith("/"):
                yield from walk(root, name, prefix)
            else:
                yield name


def read_lock(file: int | str, name: str) -> int | None:
    """The end of the lock of a descriptor or path. Raises ``IntegrityFailure`` if it is no number."""
    try:
        value = os.getxattr(file, LOCK_ATTRIBUTE)
    except AttributeError:  # macOS
        return None
    except OSError as error:
        if error.errno in _NO_ATTRIBUTE:
            return None
        raise
    if not value.isdigit():
        raise IntegrityFailure(
            f"{name}: the attribute {LOCK_ATTRIBUTE} is damaged: {value[:40]!r}",
            hint="Run `donjon verify`, and set the attribute anew with setfattr(1) if the object is sound.",
        )
    return int(value)


def has_attributes(path: str) -> bool:
    """Whether the file system of ``path`` has user attributes, as far as reading tells."""
    try:
        read_lock(path, path)
        os.listxattr(path)
    except OSError:
        return False
    return True
