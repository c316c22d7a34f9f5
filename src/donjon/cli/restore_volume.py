"""`donjon restore --to-device` and `--to`: one file of a point as a disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from donjon.cli.interrupt import stopping
from donjon.cli.output import Output
from donjon.cli.restoring import How, end_timing, start_timing
from donjon.core.errors import UsageError
from donjon.core.units import format_size
from donjon.targets.base import Overwrite

if TYPE_CHECKING:
    from donjon.app.wiring import Workspace

_OUTLOOK = "What was written so far is no whole disk: restore it again."


def restore_disk(
    out: Output,
    space: Workspace,
    what: str,
    place: tuple[Path | None, str | None],
    how: How,
) -> int:
    """Restore the file that ``what`` names, POINT:/PATH, to one of ``place``: a device or image, or a URL."""
    from donjon.app.backups import open_to_use, split_name
    from donjon.app.timed_restores import Stopwatch
    from donjon.app.volumes import volume_target
    from donjon.recovery.view import TreeView
    from donjon.recovery.volume import find_volume, restore_volume

    if how.overwrite is Overwrite.IF_DIFFERENT:
        msg = "--overwrite if-different is about files, not disks"
        raise UsageError(msg, hint="Use --overwrite always, or leave it out.")
    name, path = split_name(what)
    watch = Stopwatch()
    opened = open_to_use(space, name, how.permit)
    is_whole = opened.point.body.files == 1
    start_timing(space, opened, how, watch, whole=is_whole)
    view = TreeView(opened.point, opened.reader)
    found, entry = find_volume(view, path)
    space.spool(opened.vault, opened.point, opened.reader, entry.data_bytes)
    disk = volume_target(*place, overwrite=how.overwrite is Overwrite.ALWAYS, name=found)
    with disk as target, stopping(_OUTLOOK) as stop, out.progress("Restoring") as progress:
        progress.total(items=1, size_bytes=entry.data_bytes)
        done = restore_volume(view, entry, target, progress, stop, verify=how.verify)
    out.warn_all(list(done.notes))
    evidence = end_timing(out, space, opened, watch, done.size_bytes, sound=True) if is_whole else None
    data = {
        "bytes": done.size_bytes,
        "bytes_written": done.data_bytes,
        "verified": done.verified,
        "made": done.made,
        "notes": list(done.notes),
        "evidence": evidence,
    }
    sizes = f"{format_size(done.size_bytes)}, {format_size(done.data_bytes)} of them data"
    text = f"Restored {sizes}, to {done.made}"
    if done.verified:
        text += "; read back and compared"
    if evidence:
        text += f"; evidence {evidence[:12]}"
    out.result(data, text)
    return 0
