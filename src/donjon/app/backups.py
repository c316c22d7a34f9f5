"""Backing up and restoring, as every interface offers it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from donjon.app.wiring import Workspace
from donjon.backup.job import Job
from donjon.backup.preview import Preview, Tell, preview
from donjon.backup.run import Outcome, run_backup
from donjon.core.clock import system_clock
from donjon.core.events import Progress, StopCheck, never_stop
from donjon.repository.points import OpenPoint, find_points
from donjon.repository.reading import ChunkReader
from donjon.repository.vault import Vault
from donjon.repository.writing import WriteSession

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


def default_workload(paths: Sequence[bytes]) -> str:
    """``HOST:PATH``, with the paths sorted and joined by commas."""
    names = ",".join(sorted(os.fsdecode(path).encode(errors="replace").decode() for path in paths))
    return f"{socket.gethostname()}:{names}"


def back_up(
    workspace: Workspace, request: BackupRequest, progress: Progress, stop: StopCheck = never_stop
) -> tuple[Outcome, str]:
    """Make a recovery point; its outcome and the name of its workload. Raises ``Interrupted``."""
    vault, credential = workspace.open_for_writing()
    cache = workspace.cache(vault)
    workload = request.workload or default_workload(request.paths)
    source = request.make_source(own_folders(workspace, vault))
    session = WriteSession(vault, credential.signing_key, credential.writer_id, cache, system_clock)
    try:
        job = Job(
            source, workload, socket.gethostname(), request.paths, request.tags, read_all=request.read_all
        )
        return run_backup(job, session, cache, system_clock, progress, stop), workload
    finally:
        session.close()
        vault.store.close()


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


def split_name(name: str) -> tuple[str, bytes]:
    """``POINT:/sub/tree`` as the point's name and a path relative to its root."""
    point, separator, path = name.partition(":/")
    if not separator:
        return name, b""
    return point, os.fsencode(os.path.normpath("/" + path)).lstrip(b"/")
