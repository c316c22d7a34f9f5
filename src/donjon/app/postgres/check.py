"""Whether the archived log of a server has gaps, and how far each of its base backups can be recovered."""

from __future__ import annotations

from dataclasses import dataclass, field

from donjon.app.postgres.archive import KnownPoint, Log, WalArchive
from donjon.app.postgres.servers import ServerPoint, is_base
from donjon.app.wiring import Workspace
from donjon.core.errors import DonjonError, IntegrityFailure
from donjon.core.events import Progress
from donjon.recovery.postgres import read_label
from donjon.recovery.postgres_wal import WalKind, parse_name, reaches, segment_name
from donjon.repository.tree import Tree
from donjon.sources.postgres import BASE


@dataclass(frozen=True, slots=True)
class Window:
    """A base backup, and the log from there on. Times are in Unix seconds.

    ``start`` is the segment in which its recovery begins, ``last`` the last one that it gets to, empty if not
    even the first is in the archive: then it comes back as it was at its end, from the log that it holds.
    """

    point: bytes
    made_at: int
    start: str
    last: str


@dataclass(slots=True)
class Checked:
    """What was found. ``missing`` are names of segments between others, and of histories of timelines."""

    logs: list[Log] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    damaged: list[IntegrityFailure] = field(default_factory=list)


def check_log(workspace: Workspace, workload: str, progress: Progress) -> Checked:
    """Look at the names of all that is archived, and at the beginning of each base backup."""
    vault = workspace.open_for_reading()
    archive = WalArchive(workspace, vault, workload)
    archive.refresh(progress)
    checked = Checked(logs=archive.logs(), damaged=list(archive.catalogue.damaged))
    for log in checked.logs:
        for timeline in log.timelines:
            checked.missing += [
                segment_name(timeline.timeline, number, log.segment_bytes) for number in timeline.missing
            ]
            if not timeline.has_history:
                checked.missing.append(f"{timeline.timeline:08X}.history")
    logs = {log.system: log for log in checked.logs}
    for known in archive.catalogue.points:
        if known.workload == workload and is_base(known.sources):
            try:
                checked.windows.append(_window(archive, known, logs))
            except IntegrityFailure as error:
                checked.damaged.append(error)
            except DonjonError:  # its data is gone, as nothing keeps it any more
                continue
    return checked


def _window(archive: WalArchive, known: KnownPoint, logs: dict[int, Log]) -> Window:
    point = archive.catalogue.open(known)
    found = ServerPoint.read(point, Tree(point, archive.reader()))
    label = read_label(found.content(BASE))
    log = logs.get(found.facts.system)
    start = parse_name(label.segment)
    last = ""
    if log is not None and start.kind is WalKind.SEGMENT:
        end = reaches(log.timelines, label.timeline, start.number(log.segment_bytes))
        last = segment_name(*end, log.segment_bytes) if end else ""
    return Window(point.point_id, known.stored_at, label.segment, last)
