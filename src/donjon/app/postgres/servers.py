"""Servers of PostgreSQL as every interface offers them: backing one up without a plan, and restoring one."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from donjon.app.backups import BackupRequest, back_up
from donjon.app.postgres.archive import Catalogue, KnownPoint
from donjon.app.verdicts.permits import NO_PERMIT, Permit, check_permit
from donjon.app.wiring import Workspace
from donjon.backup.run import Outcome
from donjon.core.clock import iso
from donjon.core.errors import IntegrityFailure, PointNotFound, UsageError
from donjon.core.events import Progress, StopCheck
from donjon.format.entries import Kind
from donjon.recovery.postgres import Goal, prepare_directory, unpack, unpack_tablespace, write_goal
from donjon.recovery.postgres_wal import Label
from donjon.repository.points import OpenPoint, find_points, parse_moment
from donjon.repository.tree import Tree
from donjon.repository.vault import Vault
from donjon.sources import postgres as source

#: Files that are read into memory are no larger.
_LIMITS = {source.SERVER: 65_536}


@dataclass(frozen=True, slots=True)
class BackupWanted:
    """A server to back up. ``mode`` is base or dump, ``databases`` are those of a dump."""

    service: str
    workload: str
    mode: str = "base"
    databases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    timeout_s: float = 12 * 3600


def back_up_server(
    workspace: Workspace, wanted: BackupWanted, progress: Progress, stop: StopCheck
) -> tuple[Outcome, list[str]]:
    """Make a point of a server; its outcome, and what people should know. Raises ``SourceFailed``."""
    if wanted.mode == "base":
        reading = source.base_backup(wanted.service, timeout_s=wanted.timeout_s, stop=stop)
    else:
        reading = source.dumps(wanted.service, wanted.databases, timeout_s=wanted.timeout_s, stop=stop)
    with reading as found:
        request = BackupRequest(found.source.paths, lambda _: found.source, wanted.workload, wanted.tags)
        outcome, _ = back_up(workspace, request, progress, stop)
    return outcome, [*found.warnings, *outcome.warnings]


@dataclass(frozen=True, slots=True)
class ServerPoint:
    """A point of a server, open, and what it says of the server."""

    point: OpenPoint
    tree: Tree
    facts: source.ServerFacts

    @classmethod
    def read(cls, point: OpenPoint, tree: Tree) -> ServerPoint:
        """Raises ``UsageError`` for a point that is none of a server, ``IntegrityFailure``."""
        data = b"".join(map(bytes, content(point, tree, source.SERVER)))
        try:
            facts = msgspec.json.decode(data, type=source.ServerFacts)
        except msgspec.MsgspecError as error:
            msg = f"point {point.point_id.hex()[:12]}: server.json cannot be read: {error}"
            raise IntegrityFailure(msg, hint="Use another point.") from error
        return cls(point, tree, facts)

    @property
    def is_base(self) -> bool:
        """Whether it is a base backup, and no dump."""
        return is_base(self.point.body.sources)

    def content(self, name: bytes) -> Iterator[bytes | memoryview]:
        """The bytes of one of its files. Raises ``UsageError`` if it has none of this name."""
        return content(self.point, self.tree, name)


def is_base(sources: tuple[bytes, ...]) -> bool:
    """Whether these are the files of a base backup."""
    return sources[-2:] == (b"/" + source.BASE, b"/" + source.SERVER)


def content(point: OpenPoint, tree: Tree, name: bytes) -> Iterator[bytes | memoryview]:
    """The bytes of one of the files of a point. Raises ``UsageError`` if it has none of this name."""
    entry = tree.find(name)
    if entry is None or entry.kind != Kind.FILE or entry.size > _LIMITS.get(name, entry.size):
        msg = f"point {point.point_id.hex()[:12]} has no {os.fsdecode(name)}"
        raise UsageError(msg, hint="It is no such backup of a server; see `donjon ls POINT`.")
    yield from tree.content(entry)


def find_server_point(
    workspace: Workspace, vault: Vault, catalogue: Catalogue, name: str, permit: Permit, progress: Progress
) -> ServerPoint:
    """The point that ``WORKLOAD@latest``, ``WORKLOAD@TIME`` or an id means.

    Points of the log are passed over without being opened, as there may be thousands. Raises
    ``PointNotFound``, ``UsageError`` for a point that is none of a server, and ``Refused`` and
    ``NotApproved`` for a suspect point that the permit is not for.
    """
    workload, separator, moment = name.rpartition("@")
    if separator:
        catalogue.refresh(progress)
        until = None if moment == "latest" else parse_moment(moment)
        fitting = [known for known in catalogue.points if _fits(known, workload, until)]
        if not fitting:
            msg = f"there is no point {name} of a server of PostgreSQL in {vault.store.url}"
            raise PointNotFound(msg, hint="See `donjon points`.")
        point = catalogue.open(fitting[-1])
    else:
        (point,) = find_points(vault, name)
    check_permit(workspace, vault, point, permit)
    reader = workspace.reader(vault, progress)
    workspace.spool(vault, point, reader, point.body.size_bytes)
    return ServerPoint.read(point, Tree(point, reader))


def _fits(known: KnownPoint, workload: str, until: int | None) -> bool:
    is_server = b"/" + source.SERVER in known.sources
    return is_server and known.workload == workload and (until is None or known.stored_at <= until)


@dataclass(frozen=True, slots=True)
class RestoreWanted:
    """What to restore, and how far to recover. ``command`` replaces the ``restore_command`` of Donjon.

    ``tablespaces`` says where each goes, by name.
    """

    point: str
    directory: Path
    time: datetime | None = None
    lsn: str | None = None
    uses_wal: bool = True
    command: str | None = None
    permit: Permit = NO_PERMIT
    tablespaces: Mapping[str, Path] = field(default_factory=dict)


@dataclass(slots=True)
class RestoredServer:
    """A data directory that is ready to be started, and what its recovery will do."""

    directory: Path
    point: bytes
    label: Label
    goal: Goal
    warnings: list[str] = field(default_factory=list)


def restore_server(
    workspace: Workspace, wanted: RestoreWanted, progress: Progress, stop: StopCheck
) -> RestoredServer:
    """Make a data directory of a base backup. Raises ``Refused`` if it would lie over something."""
    vault = workspace.open_for_reading()
    catalogue = Catalogue(workspace, vault)
    found = find_server_point(workspace, vault, catalogue, wanted.point, wanted.permit, progress)
    check_time(found, wanted.time)
    command = wanted.command or fetch_command(workspace, found)
    goal = Goal(command if wanted.uses_wal else None, wanted.time, wanted.lsn)
    if not found.is_base:
        msg = f"{wanted.point} holds dumps, which are no data directory"
        raise UsageError(msg, hint="Bring them back with `donjon restore` and pg_restore.")
    places = _places(found, wanted)
    prepare_directory(wanted.directory)
    for place in places.values():
        prepare_directory(place, like=wanted.directory)
    progress.total(size_bytes=found.point.body.size_bytes)
    label = unpack_all(found, wanted.directory, places, progress, stop)
    write_goal(wanted.directory, goal)
    warnings = [error.message for error in catalogue.damaged]
    return RestoredServer(wanted.directory, found.point.point_id, label, goal, warnings)


def _places(found: ServerPoint, wanted: RestoreWanted) -> dict[int, Path]:
    """Where each tablespace goes, by OID. Raises ``UsageError`` unless that was said of each and no other."""
    names = [one.name for one in found.facts.tablespaces]
    if unknown := sorted(wanted.tablespaces.keys() - set(names)):
        msg = f"{wanted.point} has no tablespace {unknown[0]}"
        raise UsageError(msg, hint=f"It has {', '.join(names) or 'none'}.")
    if missing := [name for name in names if name not in wanted.tablespaces]:
        were = ", ".join(f"{one.name} was in {one.location}" for one in found.facts.tablespaces)
        msg = f"{wanted.point} has tablespaces, and nothing says where to put {', '.join(missing)}"
        raise UsageError(msg, hint=f"Name a new folder for each with --tablespace NAME=FOLDER: {were}.")
    places = {one.oid: wanted.tablespaces[one.name].absolute() for one in found.facts.tablespaces}
    # Where they really are: a folder may be named in two ways.
    real = [(path, Path(os.path.realpath(path))) for path in (wanted.directory.absolute(), *places.values())]
    for (one, here), (other, there) in itertools.permutations(real, 2):
        if here.is_relative_to(there):
            msg = f"{one} lies in {other}"
            raise UsageError(
                msg, hint="Name folders for the server and its tablespaces that lie side by side."
            )
    return places


def unpack_all(
    found: ServerPoint, directory: Path, places: Mapping[int, Path], progress: Progress, stop: StopCheck
) -> Label:
    """Unpack the tablespaces of a base backup to their places, which are empty, then the data directory."""
    for one in found.facts.tablespaces:
        unpack_tablespace(found.content(one.archive.encode()), places[one.oid], progress, stop)
    return unpack(found.content(source.BASE), directory, progress, stop, places)


def check_time(found: ServerPoint, time: datetime | None) -> None:
    """Raises ``UsageError`` for a time before the backup: recovery only goes forward."""
    began = found.point.body.started_at
    if time is not None and time.timestamp() < began:
        msg = f"{time.astimezone(UTC).isoformat()} is before this backup began ({iso(began)})"
        raise UsageError(msg, hint=f"Use an earlier one: {found.point.body.workload}@TIME finds it.")


def fetch_command(workspace: Workspace, found: ServerPoint) -> str:
    """The ``restore_command`` that fetches the log with the vault and the kit that are used now."""
    settings = workspace.settings
    own = Path(sys.argv[0])
    program = own.absolute() if own.name == "donjon" else shutil.which("donjon")
    words = [str(program)] if program else [sys.executable, "-m", "donjon"]
    words += ["wal", "fetch", "--workload", found.point.body.workload]
    words += ["--system", str(found.facts.system)]
    words += ["--vault", settings.vault] if settings.vault else []
    words += ["--kit", str(settings.kit.absolute())] if settings.kit else []
    if settings.passphrase_file:
        words += ["--passphrase-file", str(settings.passphrase_file.absolute())]
    return shlex.join(words).replace("%", "%%") + ' "%f" "%p"'
