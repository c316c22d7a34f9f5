"""Files and folders that only their owner may see, made so that nothing is ever overwritten."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from donjon.core.errors import DonjonError, PermissionMissing, Refused, StoreFull, UsageError

_NO_SYNC = {errno.EINVAL, errno.ENOTSUP}  # some network file systems cannot sync a folder


def private_folder(path: Path) -> Path:
    """The folder, made with mode 0700 together with the parents that are missing.

    Raises ``PermissionMissing``, ``UsageError``.
    """
    if path.is_dir():
        return path
    try:
        for folder in (*reversed(path.parents), path):
            with contextlib.suppress(FileExistsError):
                if not folder.is_dir():
                    folder.mkdir(mode=0o700)
    except OSError as error:
        raise _translated(path, error) from error
    if not path.is_dir():
        msg = f"{path}: is no folder"
        raise UsageError(msg, hint="Choose another place, or remove what is there.")
    return path


def create_private(path: Path, data: bytes) -> None:
    """Create a file of mode 0600, whole or not at all, on the disk with its name on return.

    Raises ``Refused`` if something is there already, ``PermissionMissing``, ``StoreFull``,
    ``UsageError`` if the place cannot hold a file.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(path.parent)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _translated(path, error) from error


def replace_private(path: Path, data: bytes) -> None:
    """Replace a file of mode 0600 atomically, on the disk on return. Raises like ``create_private``."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        create_private(temporary, data)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _translated(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def _translated(path: Path, error: OSError) -> DonjonError:
    if isinstance(error, FileExistsError):
        msg = f"{path}: exists already, and is never overwritten"
        return Refused(msg, hint="Choose another file name.")
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        msg = f"{path}: no permission to create it"
        return PermissionMissing(msg, hint="Choose a place that you may write to.")
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreFull(f"{path}: the disk is full", hint="Free some room and try again.")
    return UsageError(f"{path}: cannot be created: {error.strerror}", hint="Choose another place.")
