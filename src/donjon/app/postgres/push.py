"""Archiving PostgreSQL's write-ahead log: what ``archive_command`` calls for each segment.

The answer is success only once the segment is committed in the vault. What waits beside it comes along in
the same point: when the server is busy one point holds many segments, and the next calls find theirs done.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from donjon.app.backups import BackupRequest, back_up
from donjon.app.config import KnownVault
from donjon.app.wiring import Workspace
from donjon.codec.digest import digest
from donjon.core.errors import IntegrityFailure, Refused, SourceFailed, UsageError
from donjon.core.events import Progress, StopCheck, never_stop
from donjon.recovery.postgres_wal import (
    CONTROL_BYTES,
    HEADER_BYTES,
    WalKind,
    WalName,
    check_segment,
    parse_control,
    parse_name,
    segment_name,
)
from donjon.sources.stream import StreamsSource

#: Tags of the points of an archive: the cluster, and the size of its segments.
SYSTEM_TAG, SEGMENT_TAG = "system=", "segment-bytes="
#: So many segments go into one point at most: a restore of one of them need not know the others.
MOST_AT_ONCE = 64
_KEPT_LINES = 20_000
_SPARE_LINES = 5_000


def wal_workload(workload: str) -> str:
    """The workload of the points that hold the log of a server."""
    return f"{workload}/wal"


def wal_path(system: int, name: str) -> bytes:
    """Where a file of the log is in its point: clusters come apart, as their names are the same."""
    return f"/wal/{system}/{name}".encode()


@dataclass(slots=True)
class Pushed:
    """``names`` were stored by this call; none if the file was in the vault already."""

    names: list[str] = field(default_factory=list)
    point: bytes | None = None
    warnings: list[str] = field(default_factory=list)


def push(
    workspace: Workspace, workload: str, path: Path, progress: Progress, stop: StopCheck = never_stop
) -> Pushed:
    """Put a file of the log into the vault, with others that wait.

    Raises ``UsageError`` for a name that is none, ``IntegrityFailure`` for a segment that is another one than
    its name says, ``Refused`` if this host archived other content under this name, and what a backup raises.
    """
    file = WalFile.look(path)
    known = workspace.home.select(workspace.settings.vault)
    if isinstance(known, KnownVault):
        vault_id = bytes.fromhex(known.vault_id)
    else:
        vault = workspace.open()
        vault.store.close()
        vault_id = vault.vault_id
    record = Record(workspace.home.cache_path(vault_id), workload)
    if record.holds(file, digest(_read(path))):
        return Pushed()
    others = (other for other in _waiting(path, file) if not record.has(other))
    files = [file, *itertools.islice(others, MOST_AT_ONCE - 1)]
    streams = {wal_path(one.system, one.name.text): one for one in files}
    source = StreamsSource(streams)
    tags = (
        f"{SYSTEM_TAG}{file.system}",
        *([f"{SEGMENT_TAG}{file.segment_bytes}"] if file.segment_bytes else []),
    )
    request = BackupRequest(source.paths, lambda _: source, wal_workload(workload), tags)
    try:
        outcome, _ = back_up(workspace, request, progress, stop)
    finally:
        for one in files:
            one.close()
    if outcome.counts.problems:  # none of them is a stream's, but success must mean that all is there
        first = outcome.counts.problems[0]
        msg = f"{os.fsdecode(first.path)}: {first.reason}"
        raise SourceFailed(msg, hint="The server tries again by itself.", retryable=True)
    done = Pushed([one.name.text for one in files], outcome.point, outcome.warnings)
    done.warnings += record.gaps(files)
    record.add(files)
    return done


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> SourceFailed:
    msg = f"{path}: cannot be read: {error.strerror or error}"
    hint = "archive_command runs in the data directory, as the user of the server."
    return SourceFailed(msg, hint=hint, retryable=not isinstance(error, FileNotFoundError))


class WalFile:
    """A file of the log, as a stream that tells afterwards what was read. ``segment_bytes`` may be 0."""

    def __init__(self, path: Path, name: WalName, system: int, segment_bytes: int) -> None:
        self.path = path
        self.name = name
        self.system = system
        self.segment_bytes = segment_bytes
        self._hasher = blake3()
        self._descriptor = -1
        self._size = 0

    @classmethod
    def look(cls, path: Path) -> WalFile:
        """The file, checked to be what its name says. Raises like ``push``."""
        name = parse_name(path.name)
        try:
            if name.kind in (WalKind.SEGMENT, WalKind.PARTIAL):
                with path.open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    header = check_segment(name, file.read(HEADER_BYTES), size)
                return cls(path, name, header.system, header.segment_bytes)
            with path.open("rb"):
                return cls(path, name, system_of(path.parent.parent), 0)
        except OSError as error:
            raise _unreadable(path, error) from error

    @property
    def digest(self) -> bytes:
        """Of what was read."""
        return self._hasher.digest()

    def readinto(self, buffer: memoryview, /) -> int:
        """The next bytes; see ``ByteStream``. Raises ``SourceFailed``, also if the file became shorter."""
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            count = os.readv(self._descriptor, [buffer])
        except OSError as error:
            raise _unreadable(self.path, error) from error
        self._hasher.update(buffer[:count])
        self._size += count
        if not count and self.segment_bytes not in (0, self._size):
            msg = f"{self.path}: changed while it was read"
            raise SourceFailed(msg, hint="The server tries again by itself.", retryable=True)
        return count

    def close(self) -> None:
        """Harmless if it was never read."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def system_of(data: Path) -> int:
    """The system identifier of a data directory. Raises ``OSError``, ``IntegrityFailure``."""
    with (data / "global" / "pg_control").open("rb") as file:
        return parse_control(file.read(CONTROL_BYTES))


def _waiting(path: Path, first: WalFile) -> Iterator[WalFile]:
    """Finished files beside this one that the server has not asked for yet, oldest first."""
    try:
        names = sorted(found.name.removesuffix(".ready") for found in _status(path).glob("*.ready"))
    except OSError:
        return
    for name in names:
        if name == path.name:
            continue
        # What is wrong with one of them is said when the server asks for it.
        with contextlib.suppress(IntegrityFailure, SourceFailed, UsageError):
            other = WalFile.look(path.with_name(name))
            if other.system == first.system:
                yield other


def _status(path: Path) -> Path:
    return path.parent / "archive_status"


class Record:
    """What this host has archived: a line for each file. It is written after the commit, and may be lost.

    Then a file is stored once more, under the same name, which costs a point and does no harm.
    """

    def __init__(self, folder: Path, workload: str) -> None:
        self._path = folder / "wal" / digest(workload.encode()).hex()[:32]
        self._digests: dict[tuple[str, str], str] = {}
        for line in self._lines():
            words = line.split()
            if len(words) == 3:
                self._digests[words[0], words[1]] = words[2]

    def has(self, file: WalFile) -> bool:
        """Whether something was archived under the name of the file."""
        return _key(file) in self._digests

    def holds(self, file: WalFile, content: bytes) -> bool:
        """Whether this very file was archived. Raises ``Refused`` if another one was, under its name."""
        found = self._digests.get(_key(file))
        if found is None:
            return False
        if found != content.hex():
            msg = f"{file.name.text}: is archived already, with other content"
            hint = "Two servers seem to archive as one workload. Give each a workload of its own."
            raise Refused(msg, hint=hint)
        return True

    def gaps(self, files: list[WalFile]) -> list[str]:
        """What to warn about: segments of the same timeline that were left out before these."""
        told = []
        for file in files:
            if file.name.kind is not WalKind.SEGMENT:
                continue
            number = file.name.number(file.segment_bytes)
            names = {name for system, name in self._digests if system == str(file.system)}
            names |= {one.name.text for one in files}
            there = {
                parsed.number(file.segment_bytes)
                for parsed in map(parse_name, names)
                if parsed.kind is WalKind.SEGMENT and parsed.timeline == file.name.timeline
            }
            before = max((one for one in there if one < number), default=None)
            if before is not None and before + 1 != number:
                missed = segment_name(file.name.timeline, before + 1, file.segment_bytes)
                told.append(f"{missed} was not archived by this host, and {file.name.text} was")
        return told

    def add(self, files: list[WalFile]) -> None:
        """Note what is in the vault now. What cannot be written is not noted."""
        for file in files:
            self._digests[_key(file)] = file.digest.hex()
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lines = [f"{system} {name} {content}\n" for (system, name), content in self._digests.items()]
            if len(lines) > _KEPT_LINES + _SPARE_LINES:
                temporary = self._path.with_suffix(f".{os.getpid()}")
                temporary.touch(0o600)
                temporary.write_text("".join(lines[-_KEPT_LINES:]))
                temporary.replace(self._path)
                return
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "w") as out:
                out.write("".join(lines[-len(files) :]))

    def _lines(self) -> list[str]:
        try:
            return self._path.read_text(errors="replace").splitlines()
        except OSError:
            return []


def _key(file: WalFile) -> tuple[str, str]:
    return str(file.system), file.name.text
