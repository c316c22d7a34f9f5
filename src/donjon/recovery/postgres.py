"""A base backup becomes a data directory again, and PostgreSQL is told how far to recover it."""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final

from donjon.core.errors import IntegrityFailure, Refused, StoreFull, TargetFailed, UsageError
from donjon.core.events import Progress, StopCheck
from donjon.core.units import MIB
from donjon.recovery.postgres_wal import Label, parse_label

LABEL: Final = "backup_label"
_LABEL_LIMIT_BYTES: Final = 64 * 1024
_LSN_DIGITS: Final = frozenset("0123456789abcdefABCDEF")
_COPY_BYTES: Final = 1 * MIB
#: PostgreSQL ends the names of links with a slash, as those of folders (``tarCreateHeader``).
_TABLESPACE: Final = re.compile(r"pg_tblspc/([1-9][0-9]{0,9})/?")


@dataclass(frozen=True, slots=True)
class Goal:
    """How far to recover: to a time (with its zone), to a position in the log, or as far as the log goes.

    Without ``restore_command`` the log in the base backup is all there is: the server comes back as it was at
    the end of the backup.
    """

    restore_command: str | None = None
    time: datetime | None = None
    lsn: str | None = None

    @property
    def settings(self) -> dict[str, str]:
        """Settings of PostgreSQL for it; see "Archive Recovery" in its manual."""
        if self.restore_command is None:
            return {}
        found = {"restore_command": self.restore_command, "recovery_target_timeline": "latest"}
        if self.time is not None:
            found["recovery_target_time"] = self.time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
        if self.lsn is not None:
            found["recovery_target_lsn"] = self.lsn
        if self.time is not None or self.lsn is not None:
            found["recovery_target_action"] = "promote"
        return found


def parse_goal_time(text: str) -> datetime:
    """The time of ``--to-time``; without a zone it is local time. Raises ``UsageError``."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        msg = f"{text!r} is no time"
        raise UsageError(msg, hint="Write it like 2026-11-23T10:00:00.5+01:00.") from error


def parse_lsn(text: str) -> str:
    """The position of ``--to-lsn``. Raises ``UsageError``."""
    halves = text.split("/")
    if len(halves) != 2 or not all(0 < len(half) <= 8 and set(half) <= _LSN_DIGITS for half in halves):
        msg = f"{text!r} is no position in the log"
        raise UsageError(msg, hint="Write it as pg_current_wal_lsn() does: 0/3000148.")
    return text


def prepare_directory(directory: Path, *, like: Path | None = None) -> None:
    """Make the data directory, or take an empty one. Raises ``Refused`` if anything is in it.

    One that is made belongs to the owner of ``like``, if that is given.
    """
    try:
        is_new = not directory.exists()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_new and like is not None:
            _own(directory, _owner(like))
        if any(directory.iterdir()):
            msg = f"{directory}: is not empty"
            raise Refused(msg, hint="Name a new folder: nothing is ever restored over a data directory.")
        directory.chmod(0o700)
    except OSError as error:
        msg = f"{directory}: cannot be used: {error.strerror or error}"
        raise UsageError(msg, hint="Choose another folder.") from error


def unpack(
    pieces: Iterable[bytes | memoryview],
    directory: Path,
    progress: Progress,
    stop: StopCheck,
    tablespaces: Mapping[int, Path] = MappingProxyType({}),
) -> Label:
    """Unpack the ``base.tar`` of a base backup into an empty folder; what its label says.

    Files belong to the owner of the folder. Links to tablespaces lead to where these are now, by OID. Raises
    ``IntegrityFailure`` for what is no base backup: also for names that lead out of the folder, and for
    anything but files, folders and links to ``tablespaces``.
    """
    label: Label | None = None
    owner = _owner(directory)
    with _unpacking(pieces, directory) as tar:
        for member in tar:
            stop()
            if member.issym():
                leads_to = _link(member, tablespaces)
                place = directory / member.name
                place.symlink_to(leads_to)
            else:
                place = _make(tar, member, directory, progress)
                if member.name == LABEL and member.isreg():
                    with place.open("rb") as written:
                        label = parse_label(written.read(_LABEL_LIMIT_BYTES))
            _own(place, owner)
    if label is None:
        raise IntegrityFailure("the base backup has no backup_label", hint="Restore another point.")
    return label


def unpack_tablespace(
    pieces: Iterable[bytes | memoryview], directory: Path, progress: Progress, stop: StopCheck
) -> None:
    """Unpack the archive of a tablespace into an empty folder. Raises as ``unpack``."""
    owner = _owner(directory)
    with _unpacking(pieces, directory) as tar:
        for member in tar:
            stop()
            _own(_make(tar, member, directory, progress), owner)


@contextmanager
def _unpacking(pieces: Iterable[bytes | memoryview], directory: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(fileobj=_Stream(pieces), mode="r|", bufsize=_COPY_BYTES) as tar:
            yield tar
    except tarfile.TarError as error:
        msg = f"the base backup cannot be unpacked: {error}"
        raise IntegrityFailure(msg, hint="Run `donjon verify`, and restore another point.") from error
    except OSError as error:
        if error.errno in (28, 122):  # ENOSPC, EDQUOT
            msg = f"{directory}: no room left"
            raise StoreFull(msg, hint="Make room, remove what is there, and restore again.") from error
        msg = f"{directory}: {error.strerror or error}"
        raise TargetFailed(msg, hint="Remove what is there, and restore again.") from error


def read_label(pieces: Iterable[bytes | memoryview]) -> Label:
    """The label at the beginning of a ``base.tar``; reads no more than that. Raises ``IntegrityFailure``."""
    try:
        with tarfile.open(fileobj=_Stream(pieces), mode="r|") as tar:
            member = tar.next()
            data = tar.extractfile(member) if member and member.name == LABEL else None
            if data is None:
                raise IntegrityFailure("the base backup does not begin with its label", hint="")
            return parse_label(data.read(_LABEL_LIMIT_BYTES))
    except (tarfile.TarError, OSError) as error:
        msg = f"the base backup cannot be read: {error}"
        raise IntegrityFailure(msg, hint="Run `donjon verify`.") from error


def write_goal(directory: Path, goal: Goal) -> None:
    """Tell PostgreSQL at its next start how far to recover: appended to its settings, and the signal file.

    A backup of a standby holds ``standby.signal``, with which the server would wait for its primary for ever.
    """
    for name in ("standby.signal", "recovery.signal"):
        (directory / name).unlink(missing_ok=True)
    if not goal.settings:
        return
    lines = [f"{name} = {quoted(value)}\n" for name, value in goal.settings.items()]
    settings = directory / "postgresql.auto.conf"
    with settings.open("a", encoding="utf-8") as file:
        file.write("\n# Written by donjon, for this recovery.\n" + "".join(lines))
    (directory / "recovery.signal").touch(0o600)
    status = directory.stat()
    for path in (settings, directory / "recovery.signal"):
        path.chmod(0o600)
        _own(path, (status.st_uid, status.st_gid))


def quoted(value: str) -> str:
    """A value of a configuration file of PostgreSQL."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _owner(directory: Path) -> tuple[int, int]:
    status = directory.stat()
    return status.st_uid, status.st_gid


def _link(member: tarfile.TarInfo, tablespaces: Mapping[int, Path]) -> Path:
    """Where a link to a tablespace leads now."""
    found = _TABLESPACE.fullmatch(member.name)
    place = tablespaces.get(int(found[1])) if found else None
    if place is None:
        raise _strange(member)
    return place


def _make(tar: tarfile.TarFile, member: tarfile.TarInfo, directory: Path, progress: Progress) -> Path:
    """Make a file or a folder. Links lead out, so nothing is made through one that came with the backup."""
    parts = member.name.split("/")
    place = directory / member.name
    is_good = all(part not in ("", "..") for part in parts) and (member.isdir() or member.isreg())
    if not is_good or any(parent.is_symlink() for parent in place.parents if directory in parent.parents):
        raise _strange(member)
    if member.isdir():
        place.mkdir(mode=0o700, exist_ok=True)
    else:
        data = tar.extractfile(member)
        assert data is not None  # noqa: S101  (it is a regular file)
        _write(place, data, progress)
    return place


def _strange(member: tarfile.TarInfo) -> IntegrityFailure:
    msg = f"the base backup holds {member.name!r}, which belongs into no data directory"
    return IntegrityFailure(msg, hint="Do not trust this point; find out who made it.")


def _write(place: Path, data: IO[bytes], progress: Progress) -> None:
    with open(place, "xb", buffering=0, opener=_private) as out:
        while piece := data.read(_COPY_BYTES):
            out.write(piece)
            progress.advance(size_bytes=len(piece))
    progress.advance(items=1)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _own(path: Path, owner: tuple[int, int]) -> None:
    if os.geteuid() == 0:
        os.chown(path, *owner, follow_symlinks=False)


class _Stream(io.RawIOBase):
    """Pieces as a file that is read once, from start to end."""

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        super().__init__()
        self._pieces: Iterator[bytes | memoryview] = iter(pieces)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Exactly ``size`` bytes, fewer only at the end."""
        taken: list[bytes] = []
        while size > 0:
            if not len(self._left):
                following = next(self._pieces, None)
                if following is None:
                    break
                self._left = memoryview(following)
            piece = self._left[:size]
            self._left = self._left[len(piece) :]
            size -= len(piece)
            taken.append(bytes(piece))
        return b"".join(taken)
