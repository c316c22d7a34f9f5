"""A store in a folder of an SSH server.

An object is uploaded under ``.tmp``, synced where the server can (``fsync@openssh.com``), and then linked
to its name with ``hardlink@openssh.com``, which fails if the name is taken. Servers without that extension
get the rename of SFTP version 3, which must fail too ("It is an error if there already exists a file with
the name specified by newpath", draft-ietf-secsh-filexfer-02, 6.5); so does OpenSSH's.

SFTP has no locks: whoever has the account can delete. Use such a store as a second copy.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from donjon.core.clock import SECONDS_PER_DAY, Clock, system_clock
from donjon.core.errors import DonjonError, PermissionMissing, StoreError, StoreFull, StoreUnavailable
from donjon.core.units import KIB, MIB
from donjon.stores.base import (
    Buffer,
    LockEnforcement,
    ObjectInfo,
    ObjectStore,
    Write,
    already_exists,
    byte_range,
    is_name_part,
    locks_unsupported,
    not_found,
    truncated,
    validate_name,
    validate_prefix,
)
from donjon.stores.sftp.connection import SftpAddress, SftpConnection

if TYPE_CHECKING:
    import paramiko

T = TypeVar("T")

_TEMPORARY = ".tmp"
#: What every server must take in one request (draft-ietf-secsh-filexfer-02, 3).
_REQUEST_BYTES = 32 * KIB
#: How much is asked for ahead of the answers.
_AHEAD_BYTES = 4 * MIB
#: SSH_FXP_EXTENDED
_EXTENDED = 200
#: How paramiko raises the status of an extension that the server does not know or does not allow.
_NO_EXTENSION = {None, errno.EACCES}
_NO_LOCKS = "SFTP has no locks"


class SftpStore(ObjectStore):
    """The objects in a folder that exists; ``SftpStore.create`` makes one.

    ``stored_at`` is the modification time that the server gives. ``now`` is the server's clock, read once
    from a temporary file and then carried on by ``clock``; a user who may not write gets ``clock`` alone.
    """

    def __init__(
        self, url: str, connection: SftpConnection | None = None, clock: Clock = system_clock
    ) -> None:
        """Nothing is connected yet. Raises ``UsageError`` if ``url`` is not ``sftp://user@host/path``.

        Stores may share a ``connection``, whose address then counts but for the path.
        """
        address = SftpAddress.parse(url)
        self.url = url
        self._root = address.path
        self._connection = connection or SftpConnection(address)
        self._clock = clock
        self._ahead_s: int | None = None
        self._can_sync = True
        self._swept = False

    @classmethod
    def create(
        cls, url: str, connection: SftpConnection | None = None, clock: Clock = system_clock
    ) -> SftpStore:
        """The store at ``url``, whose folder (mode 0700) and its parents are made unless they exist."""
        store = cls(url, connection, clock)
        with store._channel("create the folder", "") as sftp:
            start = "/" if store._root.startswith("/") else ""
            parts = store._root.strip("/").split("/")
            for depth in range(len(parts)):
                _make_folder(sftp, start + "/".join(parts[: depth + 1]))
        return store

    @property
    def lock_enforcement(self) -> LockEnforcement:
        """NONE: SFTP has no locks."""
        return LockEnforcement.NONE

    def now(self) -> int:
        """The server's clock, in Unix seconds."""
        if self._ahead_s is None:
            try:
                with self._channel("create", _TEMPORARY) as sftp, self._temporary(sftp) as (file, _):
                    self._ahead_s = file.stat().st_mtime - self._clock()
            except PermissionMissing:
                self._ahead_s = 0
        return self._clock() + self._ahead_s

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        """Create an object; see the port. A lost connection may leave a file under ``.tmp``.

        The first put of a store removes such files that are older than a day.
        """
        path = self.path_of(name)
        if retain_until is not None:
            raise locks_unsupported(name, self.url, _NO_LOCKS)
        view = memoryview(data)
        with self._channel("create", name, len(view)) as sftp:
            if _exists(sftp, path):
                raise already_exists(name)
            with self._temporary(sftp) as (file, temporary):
                _write(file, view)
                self._sync(sftp, file)
                self._publish(sftp, temporary, path, name)
                self._sync(sftp, file)  # brings the name along where the file system keeps a journal
                return _info(name, file.stat())

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        """A range of the object's bytes; see the port."""
        with self._opened(name, version) as (file, size_bytes):
            start, count = byte_range(size_bytes, offset, length)
            return b"".join(_read(file, name, start, count))

    def stream(self, name: str, size_bytes: int, write: Write, *, version: str | None = None) -> None:
        """Hand on the pieces as they arrive; see the port."""
        with self._opened(name, version) as (file, found_bytes):
            if found_bytes < size_bytes:
                raise truncated(name, size_bytes, found_bytes)
            done = 0
            for piece in _read(file, name, 0, size_bytes):
                write(done, memoryview(piece))
                done += len(piece)

    def head(self, name: str, *, version: str | None = None) -> ObjectInfo:
        """What the server knows about an object; see the port."""
        path = self.path_of(name)
        if version is not None:
            raise not_found(name, version)
        with self._channel("look at", name) as sftp:
            attributes = sftp.lstat(path)
            if not stat.S_ISREG(attributes.st_mode):
                raise not_found(name)
            return _info(name, attributes)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """The objects, one folder read at a time; see the port. Files with foreign names are ignored."""
        validate_prefix(prefix)
        with self._channel("list", "") as sftp:
            if not _exists(sftp, self._root):
                raise self._gone()
        yield from self._walk(prefix[: prefix.rfind("/") + 1], prefix)

    def extend(self, name: str, retain_until: int, *, version: str | None = None) -> None:
        """Always raises ``LocksUnsupported``, or ``ObjectNotFound``."""
        self.head(name, version=version)
        raise locks_unsupported(name, self.url, _NO_LOCKS)

    def delete_expired(self, name: str, *, version: str | None = None) -> None:
        """Delete an object; no lock can hold it. See the port."""
        path = self.path_of(name)
        if version is not None:
            raise not_found(name, version)
        with self._channel("delete", name) as sftp:
            if not stat.S_ISREG(sftp.lstat(path).st_mode):
                raise not_found(name)
            sftp.remove(path)

    def close(self) -> None:
        """Close the connection, also for stores that share it; the next call opens another."""
        self._connection.close()

    def channel(self) -> contextlib.AbstractContextManager[paramiko.SFTPClient]:
        """A channel to the server for the calling thread alone; see ``SftpConnection.channel``."""
        return self._connection.channel()

    def path_of(self, name: str) -> str:
        """Where an object is on the server. Raises ``ValueError`` for what is no name."""
        return f"{self._root}/{validate_name(name)}"

    @contextlib.contextmanager
    def _channel(self, action: str, name: str, size_bytes: int = 0) -> Iterator[paramiko.SFTPClient]:
        """A channel of the connection; what the server refuses comes as our errors."""
        try:
            with self._connection.channel() as sftp:
                yield sftp
        except OSError as error:
            raise self._translated(error, action, name, size_bytes) from error

    def _translated(self, error: OSError, action: str, name: str, size_bytes: int) -> DonjonError:
        path = f"{self._root}/{name}".rstrip("/")
        reason = f"cannot {action} {path} on {self._connection.address.server}: {error.strerror or error}"
        if error.errno == errno.EACCES:
            return PermissionMissing(reason, hint="Give this user the right to do it on the server.")
        with self._connection.channel() as sftp:
            if error.errno == errno.ENOENT and not _exists(sftp, self._root):
                return self._gone()
            if error.errno == errno.ENOENT and action != "create":
                return not_found(name)
            if size_bytes and _free_bytes(sftp, self._root) < size_bytes:
                return StoreFull(
                    reason, hint="Free some room on the server; nothing was kept of this object."
                )
        return StoreError(reason, hint="Look at the server's log, its disks and the user's quota.")

    def _gone(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self.url}: there is no such folder",
            hint="Mount the server's disk, correct the address, or make a new vault with `donjon init`.",
        )

    @contextlib.contextmanager
    def _temporary(self, sftp: paramiko.SFTPClient) -> Iterator[tuple[paramiko.SFTPFile, str]]:
        """A new file of mode 0600, which is gone afterwards unless the connection is."""
        folder = f"{self._root}/{_TEMPORARY}"
        path = f"{folder}/{secrets.token_hex(16)}"
        file = _with_folder(sftp, self._root, folder, lambda: sftp.open(path, "wx"))
        try:
            file.chmod(0o600)
            if not self._swept:
                self._swept = True
                _sweep(sftp, folder, file.stat().st_mtime - SECONDS_PER_DAY)
            yield file, path
        finally:
            with contextlib.suppress(Exception):
                file.close()
                sftp.remove(path)

    def _publish(self, sftp: paramiko.SFTPClient, temporary: str, path: str, name: str) -> None:
        """Give the finished file its name, or raise ``ObjectExists``."""
        folder = path.rpartition("/")[0]

        def link() -> None:
            try:
                _extension(sftp, "hardlink@openssh.com", temporary, path)
            except OSError as error:
                if error.errno not in _NO_EXTENSION or _exists(sftp, path):
                    raise
                sftp.rename(temporary, path)  # or it is a file system without hard links

        try:
            _with_folder(sftp, self._root, folder, link)
        except OSError as error:
            if _exists(sftp, path):
                raise already_exists(name) from error
            raise

    def _sync(self, sftp: paramiko.SFTPClient, file: paramiko.SFTPFile) -> None:
        """Bring a file to the server's medium, if the server knows how."""
        if self._can_sync:
            try:
                _extension(sftp, "fsync@openssh.com", file.handle)
            except OSError as error:
                if error.errno not in _NO_EXTENSION or "failure" in str(error).lower():
                    raise
                self._can_sync = False

    @contextlib.contextmanager
    def _opened(self, name: str, version: str | None) -> Iterator[tuple[paramiko.SFTPFile, int]]:
        """A file open for reading, and its size."""
        path = self.path_of(name)
        if version is not None:
            raise not_found(name, version)
        with self._channel("read", name) as sftp, sftp.open(path, "r") as file:
            attributes = file.stat()
            if not stat.S_ISREG(attributes.st_mode):
                raise not_found(name)
            yield file, attributes.st_size

    def _walk(self, folder: str, prefix: str) -> Iterator[ObjectInfo]:
        """As ``files.walk``, with what the server says of each file. No channel is held at a yield."""
        found: dict[str, ObjectInfo | None] = {}
        try:
            with self._connection.channel() as sftp:
                for entry in sftp.listdir_attr(f"{self._root}/{folder}"):
                    if is_name_part(entry.filename):
                        name = folder + entry.filename
                        if stat.S_ISDIR(entry.st_mode):
                            found[f"{name}/"] = None
                        elif stat.S_ISREG(entry.st_mode):
                            found[name] = _info(name, entry)
        except FileNotFoundError:  # vanished, or the folder in the prefix never was
            return
        except OSError as error:
            raise self._translated(error, "list", folder, 0) from error
        for name, info in sorted(found.items(), key=lambda item: item[0]):
            if name.startswith(prefix):
                if info is None:
                    yield from self._walk(name, prefix)
                else:
                    yield info


def _info(name: str, attributes: paramiko.SFTPAttributes) -> ObjectInfo:
    return ObjectInfo(name, attributes.st_size, attributes.st_mtime)


def _write(file: paramiko.SFTPFile, view: memoryview) -> None:
    """Write without waiting for each answer, and wait for all of them at the end.

    paramiko collects the answers that are due when it writes without pipelining, and never otherwise: so
    the last piece goes that way, lest a failed write stay unnoticed.
    """
    rest = max(0, len(view) - _REQUEST_BYTES)
    file.set_pipelined(True)
    file.write(view[:rest])
    file.set_pipelined(False)
    file.write(view[rest:])


def _read(file: paramiko.SFTPFile, name: str, start: int, count: int) -> Iterator[bytes]:
    """The bytes of a range that exists, asking ahead."""
    end = start + count
    if count <= _REQUEST_BYTES:
        file.seek(start)
        pieces: Iterator[bytes] = iter([file.read(count)])
    else:
        pieces = _read_ahead(file, start, end)
    done = start
    for piece in pieces:
        done += len(piece)
        yield piece
    if done != end:
        raise truncated(name, end, done)


def _read_ahead(file: paramiko.SFTPFile, start: int, end: int) -> Iterator[bytes]:
    for first in range(start, end, _AHEAD_BYTES):
        last = min(end, first + _AHEAD_BYTES)
        yield from file.readv(
            [(at, min(_REQUEST_BYTES, last - at)) for at in range(first, last, _REQUEST_BYTES)]
        )


def _sweep(sftp: paramiko.SFTPClient, folder: str, oldest: int) -> None:
    """Remove what broken connections left before ``oldest``, a time by the server's clock."""
    for entry in sftp.listdir_attr(folder):
        if entry.st_mtime < oldest:
            with contextlib.suppress(OSError):  # somebody else was faster
                sftp.remove(f"{folder}/{entry.filename}")


def _exists(sftp: paramiko.SFTPClient, path: str) -> bool:
    try:
        sftp.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _with_folder(sftp: paramiko.SFTPClient, root: str, folder: str, call: Callable[[], T]) -> T:
    """Carry out ``call``; if ``folder`` below ``root`` is missing, make it and try once more."""
    try:
        return call()
    except FileNotFoundError:
        if not _exists(sftp, root):
            raise
    path = root
    for part in folder[len(root) :].strip("/").split("/"):
        path = f"{path}/{part}"
        _make_folder(sftp, path)
    return call()


def _make_folder(sftp: paramiko.SFTPClient, path: str) -> None:
    """Make a folder of mode 0700, unless there is one."""
    try:
        sftp.mkdir(path, 0o700)
    except OSError:  # the code for "exists" is the one for any failure
        if not _exists(sftp, path):
            raise


def _free_bytes(sftp: paramiko.SFTPClient, path: str) -> float:
    """The room that the server has for this user; infinite if it does not tell."""
    try:
        answer = _extension(sftp, "statvfs@openssh.com", path)
    except OSError:
        return float("inf")
    _, fragment_bytes, _, _, available = (answer.get_int64() for _ in range(5))
    return float(fragment_bytes * available)


def _extension(sftp: paramiko.SFTPClient, name: str, *arguments: str | bytes) -> Any:
    """Send a request that paramiko has no method for; see OpenSSH's PROTOCOL, section 4."""
    return sftp._request(_EXTENDED, name, *arguments)[1]  # noqa: SLF001 - as its own posix_rename does
