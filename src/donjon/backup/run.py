"""One backup: walk the source beside the previous point, store what is new, commit."""

from __future__ import annotations

from dataclasses import dataclass

from donjon.backup.compaction import half_empty
from donjon.backup.job import Counts, Job
from donjon.backup.previous import NextPrevious, previous_totals
from donjon.backup.walk import Walk
from donjon.core.clock import Clock
from donjon.core.errors import Interrupted
from donjon.core.events import Progress, StopCheck, never_stop
from donjon.core.tuning import prepare_for_bulk_work
from donjon.format.manifest import PointBody
from donjon.repository.cache import Cache
from donjon.repository.writing import PackNumber, WriteSession
from donjon.version import __version__


@dataclass(frozen=True, slots=True)
class Outcome:
    """A committed recovery point; ``point`` is its 32-byte id, times are in Unix seconds.

    ``manifest`` is the name of the object that commits it. ``packs_left`` are half-empty packs that it does
    not need any more.
    """

    point: bytes
    started_at: int
    finished_at: int
    bytes_stored: int
    counts: Counts
    warnings: list[str]
    protected_until: int
    manifest: str
    packs_left: int = 0


def run_backup(
    job: Job,
    session: WriteSession,
    cache: Cache,
    clock: Clock,
    progress: Progress,
    stop: StopCheck = never_stop,
) -> Outcome:
    """Carry out a backup. ``session`` is closed by the caller.

    Raises ``Interrupted`` after storing what is complete, so that the next backup goes on from there, and
    what the store and the session raise; then nothing is committed.
    """
    prepare_for_bulk_work()
    started_at = clock()
    if totals := previous_totals(cache, job.workload):
        progress.total(items=totals.items, size_bytes=totals.size_bytes)
    left: frozenset[PackNumber] = frozenset()
    if job.compact_percent:
        left = half_empty(session, cache, job.compact_percent)
        session.avoid(left)
    following = NextPrevious(cache, job.workload)
    try:
        walk = Walk(job, session, following, cache, progress, stop)
        try:
            walk.run()
            stop()  # what has to end by now must not be committed
        except Interrupted:  # not any interrupt: one that hit a pack being filled would leave a gap in it
            walk.end()
            session.flush()
            raise
        finally:
            walk.end()
        counts = walk.counts
        roots = walk.writer.finish()
        problems = walk.writer.store_problems(counts.problems)
        session.flush()
        body = PointBody(
            job.workload,
            job.host,
            job.paths,
            job.tags,
            started_at,
            clock(),
            counts.files,
            counts.directories,
            counts.others,
            counts.size_bytes,
            counts.files_new,
            counts.files_changed,
            counts.files_unmodified,
            counts.bytes_read,
            session.bytes_stored,
            len(counts.problems),
            roots,
            problems,
            f"donjon {__version__}",
        )
        point = session.commit(body)
        following.publish(counts.size_bytes)
    finally:
        following.discard()
    return Outcome(
        point,
        started_at,
        clock(),
        session.bytes_stored,
        counts,
        session.warnings,
        session.protected_until,
        session.manifest_name,
        len(left),
    )
