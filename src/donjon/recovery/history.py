"""Brings a bucket back with its history, so that the versions of each key are listed as they were.

Older versions and delete markers go first, oldest first, and then what is current over them. Their times and
ids are new, as no provider lets anybody choose these.
"""

from __future__ import annotations

from collections.abc import Iterator

from donjon.clouds.objects.base import Objects
from donjon.clouds.objects.entries import is_marker
from donjon.clouds.objects.keys import VERSION, key_of_folder, path_of
from donjon.core.errors import IntegrityFailure, PathNotFound, Refused
from donjon.core.events import Progress, StopCheck, never_stop
from donjon.format.segments import Problem
from donjon.recovery.request import Request
from donjon.recovery.restore import Restored, restore
from donjon.recovery.view import TreeView
from donjon.repository.points import OpenPoint
from donjon.repository.reading import ChunkReader
from donjon.targets.base import Overwrite
from donjon.targets.bucket.history import HistoryTarget
from donjon.targets.bucket.target import BucketTarget

_OBJECTS, _VERSIONS = b"objects", b"versions"


def check_place(objects: Objects) -> None:
    """Raises ``Refused`` if the bucket keeps no versions, or holds anything already below the prefix."""
    if not objects.keeps_versions():
        msg = f"{objects.url}: keeps no versions, so each would replace the one before"
        raise Refused(msg, hint="Turn versioning on there, or leave out --versions.")
    if any(objects.pages(versions=True)):
        msg = f"{objects.url}: holds something, and history cannot be put beneath it"
        raise Refused(msg, hint="Restore to another prefix, or to an empty bucket.")


def restore_history(
    point: OpenPoint,
    reader: ChunkReader,
    objects: Objects,
    progress: Progress,
    stop: StopCheck = never_stop,
    *,
    keep_going: bool = False,
    verify: bool = False,
) -> tuple[Restored, Restored, list[tuple[bytes, str]]]:
    """Restore a point of a bucket to ``objects``: what was done of older versions and of current objects.

    And what was lost of their metadata, as ``BucketTarget.warnings``. ``verify`` is about what is current.
    Closes ``objects``. Raises what ``restore`` raises, and what ``check_place`` does.
    """
    older, current = Restored(), Restored()
    with HistoryTarget(objects) as target, BucketTarget(objects, Overwrite.ALWAYS, keys=True) as top:
        check_place(objects)
        try:
            request = Request(
                point, _VERSIONS, overwrite=Overwrite.ALWAYS, keep_going=keep_going, in_order=True
            )
            older = restore(request, reader, target, progress, stop)
        except PathNotFound:
            pass  # nothing was ever replaced or deleted there
        for folder in _deleted(TreeView(point, reader), stop):
            try:
                target.hide(folder)
            except OSError as error:
                older.problems.append(Problem(folder, error.strerror or str(error)))
        try:
            request = Request(
                point, _OBJECTS, overwrite=Overwrite.ALWAYS, keep_going=keep_going, verify=verify
            )
            current = restore(request, reader, top, progress, stop)
        except PathNotFound:
            pass  # all of it was deleted
        return older, current, [*target.warnings(), *top.warnings()]


def _deleted(view: TreeView, stop: StopCheck) -> Iterator[bytes]:
    """Directories of keys that have older versions, no delete marker over them, and nothing current.

    Azure and Google have no delete markers: there, what was deleted last would be current again.
    """
    folder, is_hidden = b"", True
    for path, entry in view.entries(_VERSIONS):
        stop()
        key, _, name = path.removeprefix(_VERSIONS + b"/").rpartition(b"/")
        if not name.startswith(VERSION):
            continue
        if key != folder and not is_hidden and not _is_current(view, folder):
            yield folder
        folder, is_hidden = key, is_marker(entry)
    if not is_hidden and not _is_current(view, folder):
        yield folder


def _is_current(view: TreeView, folder: bytes) -> bool:
    try:
        key = key_of_folder(folder)
    except IntegrityFailure:
        return True  # it was refused when it was to be put
    return any(
        view.lookup(_OBJECTS + b"/" + path_of(key, marked=marked)) is not None for marked in (False, True)
    )
