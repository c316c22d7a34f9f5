"""What a mount shows at its root: one point, or a directory for each workload with its points."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from donjon.core.clock import iso
from donjon.format.entries import Entry, Kind
from donjon.recovery.view import ROOT, TreeView
from donjon.repository.points import OpenPoint

LATEST = b"latest"
_OPEN_VIEWS = 8
_ENTRIES_PER_VIEW = 16_384


@dataclass(frozen=True, slots=True)
class Place:
    """An item of the mount. ``view`` and ``path`` tell where it is in a point, if it is in one."""

    entry: Entry
    view: TreeView | None = None
    path: bytes = b""


class Places(Protocol):
    """Finds items by their paths in the mount, which have no slash at the start."""

    def find(self, path: bytes) -> Place | None:
        """The item, or None. Raises ``IntegrityFailure``."""

    def children(self, path: bytes) -> Iterator[tuple[bytes, Place]]:
        """(name, item) of what is in a directory. Raises ``IntegrityFailure``."""


class OnePoint:
    """The tree of one point at the root."""

    def __init__(self, view: TreeView) -> None:
        self._view = view

    def find(self, path: bytes) -> Place | None:
        entry = self._view.lookup(path)
        return None if entry is None else Place(_dated(entry, self._view.point), self._view, path)

    def children(self, path: bytes) -> Iterator[tuple[bytes, Place]]:
        for inner, entry in self._view.children(path):
            yield entry.name, Place(entry, self._view, inner)


class AllPoints:
    """``WORKLOAD/TIME/...`` for every point, and ``WORKLOAD/latest``, a link to the newest."""

    def __init__(self, points: Sequence[OpenPoint], make_view: Callable[[OpenPoint, int], TreeView]) -> None:
        """``points`` are sorted, oldest first. ``make_view`` takes how many entries a view may keep."""
        self._make_view = make_view
        self._points = name_points(points)
        self._views: OrderedDict[bytes, TreeView] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, path: bytes) -> Place | None:
        if not path:
            return Place(ROOT)
        workload, _, rest = path.partition(b"/")
        if (times := self._points.get(workload)) is None:
            return None
        if not rest:
            return Place(_directory(workload, next(reversed(times.values()))))
        time, _, inner = rest.partition(b"/")
        if time == LATEST and not inner:
            return Place(_link(LATEST, next(reversed(times))))
        return self._find_in_point(times, time, inner)

    def _find_in_point(self, times: Mapping[bytes, OpenPoint], time: bytes, inner: bytes) -> Place | None:
        if (point := times.get(time)) is None:
            return None
        view = self._view(point)
        entry = view.lookup(inner) if inner else _directory(time, point)
        return None if entry is None else Place(entry, view, inner)

    def children(self, path: bytes) -> Iterator[tuple[bytes, Place]]:
        place = self.find(path)
        if place is not None and place.view is not None:
            for inner, entry in place.view.children(place.path):
                yield entry.name, Place(entry, place.view, inner)
            return
        if not path:
            for workload, times in self._points.items():
                yield workload, Place(_directory(workload, next(reversed(times.values()))))
            return
        for time, point in self._points.get(path, {}).items():
            yield time, Place(_directory(time, point))
        if path in self._points:
            yield LATEST, Place(_link(LATEST, next(reversed(self._points[path]))))

    def _view(self, point: OpenPoint) -> TreeView:
        with self._lock:
            view = self._views.get(point.point_id)
            if view is None:
                view = self._views[point.point_id] = self._make_view(point, _ENTRIES_PER_VIEW)
                if len(self._views) > _OPEN_VIEWS:
                    self._views.popitem(last=False)
            else:
                self._views.move_to_end(point.point_id)
            return view


def name_points(points: Sequence[OpenPoint]) -> dict[bytes, dict[bytes, OpenPoint]]:
    """Points by the names of their workload and of their time, each name free of slashes and unique."""
    workloads: dict[str, dict[bytes, OpenPoint]] = {}
    for point in points:
        times = workloads.setdefault(point.body.workload, {})
        name = iso(point.point.time).encode()
        if name in times:
            name += b"-" + point.point_id.hex()[:8].encode()
        times[name] = point
    named: dict[bytes, dict[bytes, OpenPoint]] = {}
    for workload in sorted(workloads):
        base = name = safe_name(workload)
        number = 2
        while name in named:
            suffix = b"~%d" % number
            name, number = base[: 255 - len(suffix)] + suffix, number + 1
        named[name] = workloads[workload]
    return named


def safe_name(workload: str) -> bytes:
    """The name of a workload as that of a directory: ``host:/srv/web`` becomes ``host:_srv_web``."""
    text = "".join("_" if c == "/" or not c.isprintable() else c for c in workload)
    name = text.encode("utf-8", "replace")[:255].decode("utf-8", "ignore").encode()
    return b"_" + name[1:] if name.startswith(b".") else name or b"_"


def _directory(name: bytes, point: OpenPoint) -> Entry:
    time = point.point.time
    return Entry(depth=0, name=name, kind=int(Kind.DIRECTORY), mode=0o755, mtime_s=time, ctime_s=time)


def _link(name: bytes, target: bytes) -> Entry:
    return Entry(depth=1, name=name, kind=int(Kind.SYMLINK), mode=0o777, target=target, size=len(target))


def _dated(entry: Entry, point: OpenPoint) -> Entry:
    return _directory(b"", point) if entry is ROOT else entry
