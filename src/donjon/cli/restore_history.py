"""`donjon restore --to URL --versions all`: a bucket with its history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from donjon.cli.interrupt import stopping
from donjon.cli.output import Output, shown
from donjon.cli.restoring import How, end_timing, problem_rows, restore_code, start_timing
from donjon.core.errors import UsageError
from donjon.core.units import format_size
from donjon.targets.base import Overwrite

if TYPE_CHECKING:
    from donjon.app.wiring import Workspace

_OUTLOOK = "What was put stays. Run it again: it goes on."


def restore_history(out: Output, space: Workspace, what: str, url: str, how: How) -> int:
    """Restore all versions of a point of a bucket to the address of another."""
    from donjon.app.backups import open_to_use, split_name
    from donjon.app.buckets import is_of_bucket, open_objects
    from donjon.app.timed_restores import Stopwatch
    from donjon.recovery.history import restore_history as carry_out

    name, under = split_name(what)
    if under or how.overwrite is not Overwrite.NEVER:
        msg = "--versions all restores a whole point, and never over anything else"
        raise UsageError(msg, hint="Leave out the path and --overwrite.")
    watch = Stopwatch()
    opened = open_to_use(space, name, how.permit)
    if not is_of_bucket(opened.point):
        msg = f"point {opened.point.point_id.hex()[:12]} is not of a bucket, so nothing in it has versions"
        raise UsageError(msg, hint="Leave out --versions.")
    start_timing(space, opened, how, watch, whole=True)
    body = opened.point.body
    space.spool(opened.vault, opened.point, opened.reader, body.size_bytes)
    with stopping(_OUTLOOK) as stop, out.progress("Restoring") as progress:
        progress.total(items=body.files + body.directories + body.others, size_bytes=body.size_bytes)
        older, current, lost = carry_out(
            opened.point,
            opened.reader,
            open_objects(url),
            progress,
            stop,
            keep_going=how.keep_going,
            verify=how.verify,
        )
    out.warn_all([f"{shown(path)}: {reason}" for path, reason in lost])
    problems, damage = older.problems + current.problems, older.damage + current.damage
    size_bytes = older.size_bytes + current.size_bytes
    evidence = end_timing(out, space, opened, watch, size_bytes, sound=not (problems or damage))
    data = {
        "dry_run": False,
        "files": current.files,
        "versions": older.files,
        "verified": current.verified,
        "bytes": size_bytes,
        "problems": problem_rows(problems),
        "damage": problem_rows(damage),
        "evidence": evidence,
    }
    text = f"Restored {current.files} objects and {older.files} older versions, {format_size(size_bytes)}"
    if how.verify:
        text += f"; read back and compared {current.verified} objects"
    if problems or damage:
        text += f"; {len(problems)} refused by the target, {len(damage)} damaged"
    if evidence:
        text += f"; evidence {evidence[:12]}"
    out.result(data, text)
    return restore_code(problems, damage)
