"""The archived log of a server of PostgreSQL: finding a file, fetching it, and telling what is missing.

Which point holds which file is in the sealed part of each manifest, so every manifest has to be opened once.
What was learned is kept in the cache of this host: a fetch opens one manifest, not all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from donjon.app.postgres.push import SEGMENT_TAG, SYSTEM_TAG, wal_path, wal_workload
from donjon.app.wiring import Workspace
from donjon.codec.digest import digest
from donjon.core.errors import (
    DonjonError,
    IntegrityFailure,
    KeyServiceUnavailable,
    PathNotFound,
    StoreError,
    UsageError,
)
from donjon.core.events import Progress, Silent
from donjon.format import names
from donjon.format.entries import Entry, Kind
from donjon.format.manifest import open_body
from donjon.format.objects import ObjectKind
from donjon.recovery.postgres_wal import (
    DEFAULT_SEGMENT_BYTES,
    HEADER_BYTES,
    Timeline,
    WalKind,
    WalName,
    check_segment,
    is_segment_size,
    parse_name,
    timelines,
)
from donjon.repository.fetch import fetch_object
from donjon.repository.points import OpenPoint, arrange, open_point, read_manifest
from donjon.repository.reading import ChunkReader
from donjon.repository.tree import Tree
from donjon.repository.vault import Vault
from donjon.sources.postgres import SERVER
from donjon.stores.first_versions import first_of_each

_VERSION = 1


class KnownPoint(msgspec.Struct, array_like=True, frozen=True):
    """A point of a server: a base backup, dumps, or files of its log. ``stored_at`` is the store's time."""

    manifest: str
    stored_at: int
    workload: str
    tags: tuple[str, ...]
    sources: tuple[bytes, ...]

    def tag(self, name: str) -> str:
        """The rest of the tag that starts so, or an empty text."""
        return next((tag.removeprefix(name) for tag in self.tags if tag.startswith(name)), "")


class _Kept(msgspec.Struct):
    version: int
    seen: set[str]
    points: list[KnownPoint]


class Catalogue:
    """The points of servers in a vault, as far as the keys at hand open them; oldest first."""

    def __init__(self, workspace: Workspace, vault: Vault) -> None:
        self._vault = vault
        self._cache = workspace.cache(vault)
        self._path = self._cache.path("postgres", "points")
        self._kept = self._load()
        #: Manifests that are damaged.
        self.damaged: list[IntegrityFailure] = []

    @property
    def points(self) -> list[KnownPoint]:
        """What is known by now."""
        return self._kept.points

    def refresh(self, progress: Progress | None = None) -> None:
        """Open the manifests that came since. Raises what stores and key services raise."""
        kept, before = self._kept, len(self._kept.seen)
        self._vault.read_successions()
        self.damaged = []
        for info in first_of_each(self._vault.store.list(names.MANIFESTS)):
            if info.name in kept.seen:
                continue
            try:
                self._take(info.name, info.stored_at)
            except IntegrityFailure as error:
                self.damaged.append(error)
            except (KeyServiceUnavailable, StoreError):
                raise
            except DonjonError:
                continue  # sealed to others only
            if progress is not None:
                progress.advance(items=1)
        if len(kept.seen) != before:
            kept.points.sort(key=lambda point: (point.stored_at, point.manifest))
            self._cache.write(self._path, [msgspec.msgpack.encode(kept)])

    def _take(self, name: str, stored_at: int) -> None:
        data = fetch_object(self._vault.store, name, ObjectKind.MANIFEST)
        manifest = read_manifest(self._vault, name, data)
        key = self._vault.session_key(manifest.writer, manifest.session)
        body = open_body(key, manifest.sealed, name)
        is_log = any(tag.startswith(SYSTEM_TAG) for tag in body.tags)
        if is_log or b"/" + SERVER in body.sources:
            self._kept.points.append(KnownPoint(name, stored_at, body.workload, body.tags, body.sources))
        self._kept.seen.add(name)

    def open(self, known: KnownPoint) -> OpenPoint:
        """The point itself. Raises like ``open_point``."""
        data = fetch_object(self._vault.store, known.manifest, ObjectKind.MANIFEST)
        manifest = read_manifest(self._vault, known.manifest, data)
        (point,) = arrange([(digest(data), manifest, known.stored_at)], {})
        return open_point(self._vault, point)

    def _load(self) -> _Kept:
        try:
            kept = msgspec.msgpack.decode(self._path.read_bytes(), type=_Kept)
        except (OSError, msgspec.MsgspecError):
            kept = _Kept(0, set(), [])
        return kept if kept.version == _VERSION else _Kept(_VERSION, set(), [])


@dataclass(frozen=True, slots=True)
class Log:
    """The log of one cluster as it is archived."""

    system: int
    segment_bytes: int
    timelines: list[Timeline]
    newest: int


@dataclass(slots=True)
class _Held:
    """Which points hold each file of one cluster's log."""

    segment_bytes: int = DEFAULT_SEGMENT_BYTES
    newest: int = 0
    places: dict[str, list[KnownPoint]] = field(default_factory=dict)

    def names(self) -> Iterable[WalName]:
        return map(parse_name, self.places)


class WalArchive:
    """The archive of a workload, open for reading."""

    def __init__(self, workspace: Workspace, vault: Vault, workload: str) -> None:
        self._workspace = workspace
        self._vault = vault
        self._workload = workload
        self._reader: ChunkReader | None = None
        self.catalogue = Catalogue(workspace, vault)
        self._clusters = self._gather()

    def refresh(self, progress: Progress | None = None) -> None:
        """Learn of files that were archived since. Raises ``IntegrityFailure`` for a damaged manifest."""
        self.catalogue.refresh(progress or Silent())
        self._clusters = self._gather()
        self._reader = None

    def logs(self) -> list[Log]:
        """What is there of each cluster."""
        return [
            Log(system, held.segment_bytes, timelines(held.names(), held.segment_bytes), held.newest)
            for system, held in sorted(self._clusters.items())
        ]

    def only_system(self) -> int:
        """The cluster that is meant where none is named. Raises ``UsageError`` if there are several."""
        if not self._clusters:
            self.refresh()
        if len(self._clusters) == 1:
            return next(iter(self._clusters))
        systems = ", ".join(map(str, self._clusters)) or "none"
        msg = f"{wal_workload(self._workload)} holds the log of several clusters, or of none: {systems}"
        raise UsageError(msg, hint="Name one with --system; pg_controldata shows it.")

    def fetch(self, system: int, name: str, out: Path) -> None:
        """Write a file of the log to ``out``, whole or not at all.

        Raises ``PathNotFound`` if the log ends before it, and ``IntegrityFailure`` if it is missing while
        later segments are there, if two points hold different files under its name, or if it is damaged.
        """
        wanted = parse_name(name)
        if not self._places(system, name):
            self.refresh()
        places = self._places(system, name)
        if not places:
            self._explain(system, wanted)
        path = wal_path(system, name)
        found = [self._find(known, path) for known in places]
        if any(entry.chunks != found[0][1].chunks for _, entry in found):
            msg = f"{name}: {len(found)} points hold different files under this name"
            hint = "Two servers archived as one workload. See `donjon wal check`, and choose by hand."
            raise IntegrityFailure(msg, hint=hint)
        point, entry = found[-1]
        self._write(point, entry, wanted, out)

    def _places(self, system: int, name: str) -> list[KnownPoint]:
        held = self._clusters.get(system)
        return held.places.get(name, []) if held else []

    def _explain(self, system: int, wanted: WalName) -> None:
        """Raise what it means that a file is not there."""
        held = self._clusters.get(system)
        if held is not None and wanted.kind is WalKind.SEGMENT:
            number = wanted.number(held.segment_bytes)
            for timeline in timelines(held.names(), held.segment_bytes):
                if timeline.timeline == wanted.timeline and timeline.first < number < timeline.last:
                    msg = f"{wanted.text}: is missing in the archive, though later segments are there"
                    hint = "Recover to a time before it with --to-time, or push it if it still exists."
                    raise IntegrityFailure(msg, hint=hint)
        if self.catalogue.damaged:
            error = self.catalogue.damaged[0]
            msg = f"{wanted.text}: is not in the archive, but {error.message}"
            raise IntegrityFailure(msg, hint=error.hint)
        msg = f"{wanted.text}: is not in the archive of {self._workload}"
        raise PathNotFound(msg, hint="This is how a recovery learns that the log ends here.")

    def _find(self, known: KnownPoint, path: bytes) -> tuple[OpenPoint, Entry]:
        point = self.catalogue.open(known)
        entry = Tree(point, self.reader()).find(path.removeprefix(b"/"))
        if entry is None or entry.kind != Kind.FILE:
            msg = f"{os.fsdecode(path)}: point {point.point_id.hex()[:12]} does not hold what it says"
            raise IntegrityFailure(msg, hint="Run `donjon verify`.")
        return point, entry

    def reader(self) -> ChunkReader:
        """What reads chunks."""
        if self._reader is None:
            self._reader = self._workspace.reader(self._vault)
        return self._reader

    def _write(self, point: OpenPoint, entry: Entry, wanted: WalName, out: Path) -> None:
        temporary = out.with_name(f".{out.name}.{os.getpid()}.donjon")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                beginning = b""
                for piece in Tree(point, self.reader()).content(entry):
                    beginning = beginning or bytes(piece[:HEADER_BYTES])
                    file.write(piece)
                if wanted.kind in (WalKind.SEGMENT, WalKind.PARTIAL):
                    check_segment(wanted, beginning, file.tell())
                os.fsync(file.fileno())
            temporary.replace(out)
        except OSError as error:
            msg = f"{out}: cannot be written: {error.strerror or error}"
            raise UsageError(msg, hint="restore_command runs in the data directory.") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _gather(self) -> dict[int, _Held]:
        clusters: dict[int, _Held] = {}
        for point in self.catalogue.points:
            if point.workload != wal_workload(self._workload):
                continue
            for source in point.sources:
                _, _, system, name = (*source.split(b"/"), b"", b"", b"")[:4]
                with contextlib.suppress(UsageError, ValueError):
                    self._hold(clusters, point, int(system), parse_name(os.fsdecode(name)))
        return clusters

    @staticmethod
    def _hold(clusters: dict[int, _Held], point: KnownPoint, system: int, name: WalName) -> None:
        held = clusters.setdefault(system, _Held())
        held.places.setdefault(name.text, []).append(point)
        held.newest = max(held.newest, point.stored_at)
        size = point.tag(SEGMENT_TAG)
        if size.isdigit() and is_segment_size(int(size)):
            held.segment_bytes = int(size)
