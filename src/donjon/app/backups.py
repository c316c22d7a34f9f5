"""Backing up and restoring, as every interface offers it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from donjon.app.verdicts.permits import Permit, check_permit
from donjon.app.wiring import Workspace
from donjon.backup.job import Job
from donjon.backup.preview import Preview, Tell, preview
from donjon.backup.run import Outcome, run_backup
from donjon.core.clock import system_clock
from donjon.core.events import Progress, StopCheck, never_stop
from donjon.repository.cache import Cache
from donjon.repository.points import OpenPoint, find_points
from donjon.repository.reading import ChunkReader
from donjon.repository.vault import Vault
from donjon.repository.writing import WriteSession
from donjon.stores.limit import Bucket, LimitedStore

if TYPE_CHECKING:
    from donjon.sources.base import Source

#: Makes the source once it is known what must never be backed up: (device, inode) of folders.
MakeSource = Callable[[frozenset[tuple[int, int]]], "Source"]


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """What to back up. ``workload`` defaults to the host and the paths."""

    paths: tuple[bytes, ...]
    make_source: MakeSource
    workload: str | None = None
    tags: tuple[str, ...] = ()
    read_all: bool = False
    compact_percent: float = 0.0


def default_workload(paths: Sequence[bytes]) -> str:
    """``HOST:PATH``, with the paths sorted and joined by commas."""
    names = ",".join(sorted(os.fsdecode(path).encode(errors="replace").decode() for path in paths))
    return f"{socket.gethostname()}:{names}"


@dataclass(frozen=True, slots=True)
class Writing:
    """A vault that is open for one recovery point. Its session is begun, so that a fault shows early."""

    vault: Vault
    session: WriteSession
    cache: Cache
    #: (device, inode) of folders that no backup of this host should take up.
    own_folders: frozenset[tuple[int, int]]

    def commit(self, job: Job, progress: Progress, stop: StopCheck = never_stop) -> Outcome:
        """Make the point. Raises ``Interrupted``."""
        return run_backup(job, self.session, self.cache, system_clock, progress, stop)


@contextmanager
def writing(workspace: Workspace, upload_limit: int | None = None) -> Iterator[Writing]:
    """The vault with the writer credential of this host, and a session begun in it.

    At most ``upload_limit`` bytes a second go there.
    """
    vault, credential = workspace.open_for_writing()
    if upload_limit is not None:
        vault.store = LimitedStore(vault.store, Bucket(upload_limit))
    with vault.store:
        cache = workspace.cache(vault)
        session = WriteSession(vault, credential.signing_key, credential.writer_id, cache, system_clock)
        try:
            yield Writing(vault, session, cache, own_folders(workspace, vault))
        finally:
            session.close()


def back_up(
    workspace: Workspace, request: BackupRequest, progress: Progress, stop: StopCheck = never_stop
) -> tuple[Outcome, str]:
    """Make a recovery point; its outcome and the name of its workload. Raises ``Interrupted``."""
    workload = request.workload or default_workload(request.paths)
    with writing(workspace) as open_vault:
        job = Job(
            request.make_source(open_vault.own_folders),
            workload,
            socket.gethostname(),
            request.paths,
            request.tags,
            read_all=request.read_all,
            compact_percent=request.compact_percent,
        )
        return open_vault.commit(job, progress, stop), workload


def preview_backup(workspace: Workspace, request: BackupRequest, tell: Tell) -> tuple[Preview, str]:
    """What a backup would read, and the name of its workload; writes nothing."""
    vault, _ = workspace.open_for_writing()
    workload = request.workload or default_workload(request.paths)
    try:
        source = request.make_source(own_folders(workspace, vault))
        return preview(source, workload, workspace.cache(vault), tell, read_all=request.read_all), workload
    finally:
        vault.store.close()


def own_folders(workspace: Workspace, vault: Vault) -> frozenset[tuple[int, int]]:
    """(device, inode) of the folders that no backup of this host should take up: vault and cache."""
    folders = [str(workspace.home.folder / "cache")]
    if vault.store.url.startswith("file://"):
        from urllib.parse import unquote, urlsplit

        folders.append(unquote(urlsplit(vault.store.url).path))
    found = set()
    for folder in folders:
        try:
            status = os.stat(folder)  # noqa: PTH116  (bytes and texts alike)
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Opened:
    """A point that can be read."""

    vault: Vault
    point: OpenPoint
    reader: ChunkReader


def open_named_point(workspace: Workspace, name: str, progress: Progress | None = None) -> Opened:
    """The point that ``name`` means, with what reads it. Raises ``PointNotFound``, ``KeyNotAvailable``."""
    vault = workspace.open_for_reading()
    (point,) = find_points(vault, name)
    return Opened(vault, point, workspace.reader(vault, progress))


def open_to_use(workspace: Workspace, name: str, permit: Permit) -> Opened:
    """Like ``open_named_point``, for what gives out contents to be used: a suspect point takes a permit.

    Raises ``Refused`` and ``NotApproved`` for a suspect point.
    """
    vault = workspace.open_for_reading()
    (point,) = find_points(vault, name)
    check_permit(workspace, vault, point, permit)
    return Opened(vault, point, workspace.reader(vault))


def split_name(name: str) -> tuple[str, bytes]:
    """``POINT:/sub/tree`` as the point's name and a path relative to its root."""
    point, separator, path = name.partition(":/")
    if not separator:
        return name, b""
    return point, os.fsencode(os.path.normpath("/" + path)).lstrip(b"/")
