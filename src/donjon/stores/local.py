"""A store in a folder of a local or mounted file system.

An object is a file. It is written under ``.tmp``, synced, and then linked to its name, which fails if
the name is taken: so it appears whole or not at all, and two writers cannot both win. The end of its
lock is the extended attribute ``user.donjon.retain_until`` (decimal Unix seconds), set before the file
has its name. Where the process may, the kernel's immutable flag holds the file too, from right after the
naming on; a power cut in between leaves the attribute alone, and the next ``extend`` sets the flag.

What this cannot do: root can lift the flag, and folders can be renamed (the objects in them stay).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from donjon.core.clock import SECONDS_PER_DAY, Clock, system_clock
from donjon.core.errors import (
    DonjonError,
    PermissionMissing,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from donjon.core.units import MIB
from donjon.stores.base import (
    Buffer,
    LockEnforcement,
    ObjectInfo,
    ObjectStore,
    Write,
    already_exists,
    byte_range,
    locks_unsupported,
    not_found,
    still_locked,
    truncated,
    validate_name,
    validate_prefix,
)
from donjon.stores.direct import drop_cache, write_all
from donjon.stores.files import LOCK_ATTRIBUTE, has_attributes, read_lock, sync, sync_folder, walk
from donjon.stores.immutable import can_set_immutable, is_immutable, remove_leftover, set_immutable

_TEMPORARY = ".tmp"
_PIECE_BYTES = 8 * MIB  # of a stream
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe must not block us

_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
#: Errors of the system, and what we raise for them with which hint.
_ERRORS: tuple[tuple[set[int], type[DonjonError], str], ...] = (
    (
        {errno.ENOSPC, errno.EDQUOT},
        StoreFull,
        "Free some room or move the vault to a larger disk; nothing of this object was kept.",
    ),
    (
        _REFUSED,
        PermissionMissing,
        "Give this user the right to do it, and use a file system with hard links (not FAT).",
    ),
    (
        {errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN, errno.EAGAIN},
        StoreUnavailable,
        "Look at the mount and the network, then try again.",
    ),
    ({errno.EMFILE, errno.ENFILE}, StoreUnavailable, "Allow more open files: see `ulimit -n`."),
)


class LocalStore(ObjectStore):
    """The objects in a folder that exists; ``LocalStore.create`` makes one.

    ``stored_at`` is the file's modification time, by the clock of the file system. Under any other clock
    than the system's the store sets that time itself, so that it agrees with ``now``.
    """

    def __init__(self, root: Path, clock: Clock = system_clock) -> None:
        """Nothing is read or written yet. ``clock`` decides when locks end."""
        absolute = root.absolute()
        self.url = absolute.as_uri()
        self._root = os.fspath(absolute)
        self._clock = clock
        self._enforcement: LockEnforcement | None = None
        self._mutex = threading.Lock()
        self._durable_folders = {""}
        self._swept = False

    @classmethod
    def create(cls, root: Path, clock: Clock = system_clock) -> LocalStore:
        """The store in ``root``, whose folder is made (mode 0700) unless it exists.

        Raises ``PermissionMissing``, ``StoreFull``, ``StoreError``.
        """
        store = cls(root, clock)
        with store._translating("create the folder", ""):
            missing = [
                folder for folder in (root.absolute(), *root.absolute().parents) if not folder.exists()
            ]
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in missing:
                sync_folder(os.fspath(folder.parent))
        return store

    @property
    def lock_enforcement(self) -> LockEnforcement:
        """KERNEL, ADVISORY or NONE, found out once by trying on a temporary file.

        A store that this process cannot write counts as ADVISORY if its file system has attributes.
        """
        with self._mutex:
            if self._enforcement is None:
                with self._translating("probe", ""):
                    self._enforcement = self._probe()
            return self._enforcement

    def now(self) -> int:
        """The time by the clock given, in Unix seconds."""
        return self._clock()

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        """Create an object; see the port. A failure leaves neither an object nor a temporary file.

        From 1 MiB on, ``data`` in page-aligned memory (``mmap``) costs least: it is written uncached.
        """
        path = self._path(name)
        if retain_until is not None and self.lock_enforcement is LockEnforcement.NONE:
            raise locks_unsupported(name, self.url, "its file system has no user attributes")
        with self._translating("create", name):
            self._ensure_folder(name.rpartition("/")[0])
            if os.path.lexists(path):
                raise _taken(name, path)
            descriptor, temporary = self._new_temporary()
            try:
                self._fill(descriptor, data, retain_until)
                self._publish(descriptor, temporary, path, name, locked=retain_until is not None)
                return _info(name, os.fstat(descriptor), retain_until)
            finally:
                os.close(descriptor)
                with contextlib.suppress(OSError):
                    os.unlink(temporary)

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        """A range of the object's bytes; see the port."""
        with self._opened(name, "read", version) as descriptor:
            start, count = byte_range(os.fstat(descriptor).st_size, offset, length)
            data = os.pread(descriptor, count, start)
            if len(data) == count:
                return data
            pieces = [data]  # Linux reads at most 2 GiB in one call
            while data and (done := sum(map(len, pieces))) < count:
                data = os.pread(descriptor, count - done, start + done)
                pieces.append(data)
            return b"".join(pieces)

    def stream(self, name: str, size_bytes: int, write: Write, *, version: str | None = None) -> None:
        """Read the file piece by piece; see the port."""
        with self._opened(name, "read", version) as descriptor:
            done = 0
            while done < size_bytes:
                piece = os.pread(descriptor, min(_PIECE_BYTES, size_bytes - done), done)
                if not piece:
                    raise truncated(name, size_bytes, done)
                write(done, memoryview(piece))
                done += len(piece)

    def head(self, name: str, *, version: str | None = None) -> ObjectInfo:
        """What the file system knows about an object; see the port."""
        with self._opened(name, "look at", version) as descriptor:
            return _info(name, os.fstat(descriptor), read_lock(descriptor, name))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """The objects, one folder read at a time; see the port. Files with foreign names are ignored."""
        validate_prefix(prefix)
        with self._translating("list", ""):
            if not Path(self._root).is_dir():
                raise self._gone()
            start = prefix[: prefix.rfind("/") + 1]
            for name in walk(self._root, start, prefix):
                path = f"{self._root}/{name}"
                try:
                    info = _info(name, Path(path).lstat(), read_lock(path, name))
                except FileNotFoundError:  # deleted since its folder was read
                    continue
                yield info

    def extend(self, name: str, retain_until: int, *, version: str | None = None) -> None:
        """Move the end of a lock into the future; see the port.

        The flag is lifted for the moment of the change, for an immutable file's attributes cannot change.
        A crash in that moment leaves the old or the new end without the flag; extending again sets it.
        """
        with self._opened(name, "extend the lock of", version, exclusive=True) as descriptor:
            present = read_lock(descriptor, name)
            if present is not None and present > retain_until:
                raise still_locked(name, "shorten its lock", present)
            enforcement = self.lock_enforcement
            if enforcement is LockEnforcement.NONE:
                raise locks_unsupported(name, self.url, "its file system has no user attributes")
            kernel = enforcement is LockEnforcement.KERNEL
            try:
                if kernel and present != retain_until:
                    set_immutable(descriptor, on=False)
                if present != retain_until:
                    os.setxattr(descriptor, LOCK_ATTRIBUTE, b"%d" % retain_until)
            finally:
                if kernel:
                    set_immutable(descriptor, on=True)
            sync(descriptor)

    def delete_expired(self, name: str, *, version: str | None = None) -> None:
        """Delete an object that no lock holds by the store's clock; see the port."""
        path = self._path(name)
        with self._opened(name, "delete", version, exclusive=True) as descriptor:
            present = read_lock(descriptor, name)
            if present is not None and present > self._clock():
                raise still_locked(name, "delete", present)
            if is_immutable(descriptor):
                set_immutable(descriptor, on=False)
            Path(path).unlink()
            sync_folder(path.rpartition("/")[0])

    def _path(self, name: str) -> str:
        return f"{self._root}/{validate_name(name)}"

    def _ensure_folder(self, relative: str) -> None:
        """Make a folder below the root, and make sure once a process that a power cut cannot lose it."""
        if relative in self._durable_folders:
            return
        parent = self._root
        for part in relative.split("/"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{parent}/{part}", 0o700)
            sync_folder(parent)
            parent = f"{parent}/{part}"
        self._durable_folders.add(relative)

    def _new_temporary(self) -> tuple[int, str]:
        """A new empty file of mode 0600; the first call also removes what killed processes left."""
        self._ensure_folder(_TEMPORARY)
        folder = f"{self._root}/{_TEMPORARY}"
        descriptor, path = tempfile.mkstemp(dir=folder)
        if not self._swept:
            self._swept = True
            # Ages are told by the file system's own time, which no clock of a process can shift.
            oldest = os.fstat(descriptor).st_mtime - SECONDS_PER_DAY
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        if entry.stat(follow_symlinks=False).st_mtime < oldest:
                            remove_leftover(entry.path)
        return descriptor, path

    def _fill(self, descriptor: int, data: Buffer, retain_until: int | None) -> None:
        """Bring bytes and lock to disk, before the object has a name."""
        view = memoryview(data)
        write_all(descriptor, view)
        if retain_until is not None:
            os.setxattr(descriptor, LOCK_ATTRIBUTE, b"%d" % retain_until)
        if self._clock is not system_clock:
            os.utime(descriptor, (self._clock(), self._clock()))
        sync(descriptor)
        drop_cache(descriptor, 0, len(view))

    def _publish(self, descriptor: int, temporary: str, path: str, name: str, *, locked: bool) -> None:
        """Give the finished file its name, or raise ``ObjectExists``."""
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise _taken(name, path) from None
        try:
            os.unlink(temporary)  # before the flag, which would keep this name as well
            if locked and self.lock_enforcement is LockEnforcement.KERNEL:
                set_immutable(descriptor, on=True)
            sync_folder(path.rpartition("/")[0])
        except OSError:
            # Not known to survive a power cut, so nobody may find it and rely on it.
            with contextlib.suppress(OSError):
                if is_immutable(descriptor):
                    set_immutable(descriptor, on=False)
                Path(path).unlink()
            raise

    def _probe(self) -> LockEnforcement:
        if not hasattr(os, "setxattr"):  # macOS
            return LockEnforcement.NONE
        try:
            descriptor, path = self._new_temporary()
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            return LockEnforcement.ADVISORY if has_attributes(self._root) else LockEnforcement.NONE
        try:
            os.setxattr(descriptor, LOCK_ATTRIBUTE, b"0")
            return LockEnforcement.KERNEL if can_set_immutable(descriptor) else LockEnforcement.ADVISORY
        except OSError as error:
            if error.errno not in _REFUSED | {errno.ENOTSUP}:
                raise
            return LockEnforcement.NONE
        finally:
            os.close(descriptor)
            Path(path).unlink()

    @contextlib.contextmanager
    def _opened(
        self, name: str, action: str, version: str | None, *, exclusive: bool = False
    ) -> Iterator[int]:
        """An open descriptor of an object; ``exclusive`` keeps other changes of it out, in any process."""
        path = self._path(name)
        if version is not None:
            raise not_found(name, version)
        with self._translating(action, name):
            descriptor = os.open(path, _READ)
            try:
                status = os.fstat(descriptor)
                if exclusive:
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                    if not os.path.samestat(status, Path(path).lstat()):
                        raise not_found(name)
                if not stat.S_ISREG(status.st_mode):
                    raise not_found(name)
                yield descriptor
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def _translating(self, action: str, name: str) -> Iterator[None]:
        """Raise our errors for the system's."""
        try:
            yield
        except OSError as error:
            raise self._translated(error, action, name) from error

    def _translated(self, error: OSError, action: str, name: str) -> DonjonError:
        path = f"{self._root}/{name}" if name else self._root
        reason = f"cannot {action} {path}: {error.strerror}"
        if error.errno in _MISSING:
            self._durable_folders = {""}
            if not Path(self._root).is_dir():
                return self._gone()
            if action != "create":
                return not_found(name)
            return StoreUnavailable(
                reason, hint="A folder vanished meanwhile; look who removes folders there."
            )
        for codes, kind, hint in _ERRORS:
            if error.errno in codes:
                return kind(reason, hint=hint)
        return StoreError(reason, hint="Look at the kernel's log (`dmesg`) and the health of the disk.")

    def _gone(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._root}: there is no such folder",
            hint="Mount the disk, correct the address, or make a new vault with `donjon init`.",
        )


def _info(name: str, status: os.stat_result, retain_until: int | None) -> ObjectInfo:
    return ObjectInfo(name, status.st_size, int(status.st_mtime), retain_until)


def _taken(name: str, path: str) -> DonjonError:
    """The error for a name that is taken, once a power cut cannot lose the object that has it."""
    sync_folder(path.rpartition("/")[0])
    return already_exists(name)
