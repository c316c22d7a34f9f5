"""Brings a bucket back with its history, so that the versions of each key are listed as they were.

Older versions and delete markers go first, oldest first, and then what is current over them. Their times and
ids are new, as no provider lets anybody choose these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, suppress

from donjon.clouds.objects.base import Objects
from donjon.clouds.objects.entries import is_marker
from donjon.clouds.objects.keys import VERSION, key_of_folder, path_of
from donjon.core.errors import IntegrityFailure, PathNotFound, Refused
from donjon.core.events import Progress, StopCheck, never_stop
from donjon.format.entries import Entry, Kind
from donjon.format.segments import Problem
from donjon.recovery.request import Request
from donjon.recovery.restore import Restored, restore
from donjon.recovery.view import TreeView
from donjon.repository.points import OpenPoint
from donjon.repository.reading import ChunkReader
from donjon.targets.base import Overwrite
from donjon.targets.bucket.history import HistoryTarget
from donjon.targets.bucket.present import Present

_OBJECTS, _VERSIONS = b"objects", b"versions"


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

    And what was lost of their metadata, as ``BucketTarget.warnings``. What is there already must be the
    beginning of the same history, as a restore that was cut off leaves it: it is compared, and stays.
    ``verify`` is about what is current. Closes ``objects``. Raises what ``restore`` raises, and ``Refused``
    if the bucket keeps no versions or holds more of a key than the point has.
    """
    if not objects.keeps_versions():
        msg = f"{objects.url}: keeps no versions, so each would replace the one before"
        raise Refused(msg, hint="Turn versioning on there, or leave out --versions.")
    older, current = Restored(), Restored()
    with (
        closing(Present(objects)) as present,
        HistoryTarget(objects, present) as below,
        HistoryTarget(objects, present, current=True) as top,
    ):
        view = TreeView(point, reader)
        if not present.is_empty:
            _check_beginning(objects, present, _keys(view, below, top, stop))
        with suppress(PathNotFound):  # nothing was ever replaced or deleted there
            request = Request(
                point, _VERSIONS, overwrite=Overwrite.ALWAYS, keep_going=keep_going, in_order=True
            )
            older = restore(request, reader, below, progress, stop)
        for folder in _deleted(view, stop):
            try:
                below.hide_last(folder)
            except OSError as error:
                older.problems.append(Problem(folder, error.strerror or str(error)))
        with suppress(PathNotFound):  # all of it was deleted
            request = Request(
                point, _OBJECTS, overwrite=Overwrite.ALWAYS, keep_going=keep_going, verify=verify
            )
            current = restore(request, reader, top, progress, stop)
        return older, current, [*below.warnings(), *top.warnings()]


def _check_beginning(objects: Objects, present: Present, wanted: Iterable[str]) -> None:
    """Before anything is put. What there is of each key is compared later, when it is its turn."""
    other = present.surplus(wanted)
    if other is not None:
        msg = f"{objects.url}: holds something that this restore did not put there, such as {other}"
        raise Refused(msg, hint="Restore to another prefix, or to an empty bucket.")


def _keys(view: TreeView, below: HistoryTarget, top: HistoryTarget, stop: StopCheck) -> Iterator[str]:
    """The key of everything that will be listed once all is put, as often as it will be."""
    for under, target in ((_VERSIONS, below), (_OBJECTS, top)):
        for path, entry in _entries(view, under):
            stop()
            if entry.kind == Kind.FILE and target.leaves_trace(entry):
                with suppress(OSError):  # told when it is to be put
                    yield target.key(path.removeprefix(under + b"/"))
    for folder in _deleted(view, stop):
        if below.marks_deletions:
            with suppress(OSError):
                yield below.key(folder + b"/" + VERSION)


def _entries(view: TreeView, under: bytes) -> Iterator[tuple[bytes, Entry]]:
    with suppress(PathNotFound):
        yield from view.entries(under)


def _deleted(view: TreeView, stop: StopCheck) -> Iterator[bytes]:
    """Directories of keys that have older versions, no delete marker over them, and nothing current.

    Azure and Google have no delete markers: there, what was deleted last would be current again.
    """
    folder, is_hidden = b"", True
    for path, entry in _entries(view, _VERSIONS):
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
