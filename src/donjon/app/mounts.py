"""Gathering what a mount shows."""

from __future__ import annotations

from collections.abc import Callable

from donjon.app.queries import PointFilter, open_wanted
from donjon.app.verdicts.permits import Permit, check_permit, usable
from donjon.app.wiring import Workspace
from donjon.core.errors import PointNotFound
from donjon.recovery.mount import MountOperations
from donjon.recovery.mount_places import AllPoints, OnePoint, Places
from donjon.recovery.view import TreeView


def prepare_mount(
    workspace: Workspace, name: str | None, warn: Callable[[str], None], permit: Permit
) -> tuple[MountOperations, int]:
    """The file system of one point, or of all that are not suspect, and how many points it shows.

    Raises ``PointNotFound``, ``KeyNotAvailable``; ``Refused`` and ``NotApproved`` for a suspect point that
    the permit is not for.
    """
    vault = workspace.open_for_reading()
    points = open_wanted(vault, PointFilter(), name)
    if not points:
        msg = f"there is no point in {vault.store.url}"
        raise PointNotFound(msg, hint="Make one with `donjon backup PATH`.")
    if name is not None:
        check_permit(workspace, vault, points[0], permit)
    else:
        points, marked = usable(workspace, vault, points)
        if marked:
            which = ", ".join(point.point_id.hex()[:12] for point in marked)
            warn(f"not shown, as they are suspect: {which}; mount such a point by its name")
    reader = workspace.reader(vault)
    places: Places
    if name is not None:
        places = OnePoint(TreeView(points[0], reader))
    else:
        places = AllPoints(points, lambda point, kept: TreeView(point, reader, kept))
    size_bytes = sum(point.body.size_bytes for point in points)
    items = sum(point.body.files + point.body.directories + point.body.others for point in points)
    return MountOperations(places, warn, size_bytes=size_bytes, items=items), len(points)
