"""A base backup over the replication protocol: for clusters with tablespaces.

pg_basebackup writes one archive to its standard output, or several to a disk. Here each archive is a stream
of its own, one after the other as the server sends them, since version 15 in one stream of messages:
https://www.postgresql.org/docs/15/protocol-replication.html, "BASE_BACKUP". The result is what pg_basebackup
gives: archives of tar, the last that of the data directory, with the log and the server's manifest.
"""

from __future__ import annotations

import io
import select
import tarfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from donjon.core.errors import SourceFailed
from donjon.core.events import StopCheck

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

#: The first version whose archives come in one stream of messages.
FIRST_VERSION: Final = 150_000
MANIFEST: Final = "backup_manifest"
_COMMAND: Final = b"BASE_BACKUP (LABEL 'donjon', WAL true, CHECKPOINT 'fast', WAIT true, MANIFEST 'yes')"
_ROUND_S: Final = 0.5
#: What ends an archive of tar.
_END: Final = bytes(1024)


@dataclass(frozen=True, slots=True)
class Tablespace:
    """One that is not the cluster's own: its OID, and the directory on the server, for people to read."""

    oid: int
    location: str


class BaseBackup:
    """A base backup that is being sent. ``tablespaces`` are in the order in which their archives come.

    Raises ``SourceFailed`` if the server refuses or ends it, or if it takes longer than ``timeout_s``, and
    whatever ``stop`` raises. ``what`` names the server in messages.
    """

    def __init__(self, connection: PGconn, what: str, timeout_s: float, stop: StopCheck) -> None:
        """Begin it: the server makes a checkpoint first."""
        self._connection, self._what, self._stop = connection, what, stop
        self._deadline = time.monotonic() + timeout_s
        self._limit_s = timeout_s
        self._archives = 0
        self._manifest: io.BytesIO | None = None
        self._ended = False
        connection.send_query(_COMMAND)
        self._result()  # where the log begins
        listed = self._result()
        rows = [(listed.get_value(row, 0), listed.get_value(row, 1)) for row in range(listed.ntuples)]
        self.tablespaces = [
            Tablespace(int(oid), location.decode(errors="backslashreplace")) for oid, location in rows
            if oid is not None and location is not None
        ]  # fmt: skip
        self._result(copying=True)
        self._pieces: deque[bytes] = deque()
        self._take_until(lambda: self._archives == 1)

    def archive(self, number: int) -> ArchiveStream:
        """The archive of a tablespace, counted from 1, and behind the last one that of the data directory."""
        return ArchiveStream(self, number)

    def next_piece(self, number: int) -> bytes:
        """More of an archive, empty at its end. For its stream alone."""
        if self._archives < number:
            raise self._failure("an archive was asked for before those that come first were read")
        while not self._pieces:
            if self._archives > number or self._ended:
                return b""
            self._message()
        return self._pieces.popleft()

    def is_last(self, number: int) -> bool:
        """Whether it is the archive of the data directory."""
        return number == len(self.tablespaces) + 1

    def manifest(self) -> bytes:
        """The member of tar with the server's manifest; the backup has ended well then."""
        self._take_until(lambda: self._ended)
        if self._manifest is None:
            raise self._failure("sent no manifest")
        size = self._manifest.tell()
        self._manifest.seek(0)
        member = tarfile.TarInfo(MANIFEST)
        member.size, member.mode, member.mtime = size, 0o600, int(time.time())
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            tar.addfile(member, self._manifest)
            return made.getvalue()

    # -- the protocol ------------------------------------------------------------------------------

    def _take_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._message()

    def _message(self) -> None:
        """Take one message of the stream, or its end."""
        while (got := self._connection.get_copy_data(1))[0] == 0:
            self._wait()
        size, data = got
        if size < 0:
            self._finish()
            return
        body = bytes(data)
        kind, content = body[:1], body[1:]
        if kind == b"n":
            self._archives += 1
        elif kind == b"m":
            self._manifest = io.BytesIO()
            self._archives += 1  # so that the archive before it has ended
        elif kind == b"d" and self._manifest is not None:
            self._manifest.write(content)
        elif kind == b"d":
            self._pieces.append(content)
        elif kind != b"p":  # how far it is
            raise self._failure(f"sent a message {kind!r}, which this version of Donjon does not know")

    def _finish(self) -> None:
        """The server told the end of the stream; now whether all went well."""
        self._result()  # where the log ends
        while (result := self._next()) is not None:
            self._check(result)
        self._ended = True

    def _result(self, *, copying: bool = False) -> PGresult:
        from psycopg.pq import ExecStatus

        result = self._next()
        if result is None:
            raise self._failure("ended the backup early")
        self._check(result)
        if (result.status == ExecStatus.COPY_OUT) is not copying:
            raise self._failure("did not answer as this version of Donjon knows it")
        return result

    def _next(self) -> PGresult | None:
        while self._connection.is_busy():
            self._wait()
        return self._connection.get_result()

    def _check(self, result: PGresult) -> None:
        from psycopg.pq import ExecStatus

        if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.COPY_OUT):
            raise self._failure(" ".join(result.error_message.decode(errors="replace").split()))

    def _wait(self) -> None:
        """Until there is something to read."""
        from psycopg import OperationalError

        while not select.select([self._connection.socket], [], [], _ROUND_S)[0]:
            self._stop()
            self._in_time()
        self._stop()
        self._in_time()
        try:
            self._connection.consume_input()
        except OperationalError as error:
            raise self._failure(" ".join(str(error).split())) from error

    def _in_time(self) -> None:
        if time.monotonic() > self._deadline:
            msg = f"{self._what}: the base backup did not end within {self._limit_s:.0f} s"
            raise SourceFailed(msg, hint="Give it more time, or find out what holds it up.", retryable=True)

    def _failure(self, reason: str) -> SourceFailed:
        return SourceFailed(
            f"{self._what}: the base backup failed: {reason}",
            hint="See the log of the server, and try again.",
            retryable=True,
        )


class ArchiveStream:
    """See ``ByteStream``. Its bytes come once all archives before it were read."""

    def __init__(self, backup: BaseBackup, number: int) -> None:
        self._backup, self._number = backup, number
        self._left = memoryview(b"")
        self._tail = b""
        self._over = False

    def readinto(self, buffer: memoryview, /) -> int:
        """The next bytes; 0 at the end. See ``BaseBackup`` for what it raises."""
        while not len(self._left):
            if self._over:
                return 0
            self._left = memoryview(self._more())
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def _more(self) -> bytes:
        """What comes next. Of the last archive the end is held back, as the manifest goes before it."""
        piece = self._backup.next_piece(self._number)
        if not self._backup.is_last(self._number):
            self._over = not piece
            return piece
        held = self._tail + piece
        if piece:
            self._tail = held[-len(_END) :]
            return held[: -len(_END)]
        self._over = True
        return held.removesuffix(_END) + self._backup.manifest()
