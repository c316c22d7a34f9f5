"""What a restore is asked for, and which items of the point that takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from donjon.core.errors import IntegrityFailure, PathNotFound
from donjon.format.entries import Entry, Kind
from donjon.repository.points import OpenPoint
from donjon.repository.tree import Tree
from donjon.targets.base import Overwrite

#: Whether to restore the item at this path, relative to the root of the point.
Select = Callable[[bytes, Entry], bool]


@dataclass(frozen=True, slots=True)
class Request:
    """What to restore. ``under`` is a path of the point whose content goes right into the target.

    ``in_order``: what follows in the point is begun when what comes before it is done, batch by batch.
    """

    point: OpenPoint
    under: bytes = b""
    select: Select | None = None
    overwrite: Overwrite = Overwrite.NEVER
    keep_going: bool = False
    verify: bool = False
    in_order: bool = False


def selected(
    request: Request, tree: Tree, damage: Callable[[IntegrityFailure], None]
) -> Iterator[tuple[bytes, Entry]]:
    """(path in the target, entry) of all that is to be restored, with the parents that it needs.

    Raises ``PathNotFound`` if the point does not have what is asked for.
    """
    under, select = request.under, request.select
    waiting: list[tuple[bytes, Entry]] = []
    cut = len(under) + 1 if under else 0
    found = not under

    def damaged(error: IntegrityFailure) -> None:
        nonlocal found
        found = True  # or it may have been there
        damage(error)

    for path, entry in tree.entries(under, damaged):
        found = True
        if path == under:
            if entry.kind != Kind.DIRECTORY:
                yield entry.name, entry  # a single file keeps its name
            continue
        place = path[cut:]
        while waiting and not place.startswith(waiting[-1][0] + b"/"):
            waiting.pop()
        if select is None or select(path, entry):
            yield from waiting
            waiting.clear()
            yield place, entry
        elif entry.kind == Kind.DIRECTORY:
            waiting.append((place, entry))
    if not found:
        msg = f"/{os.fsdecode(under)}: is not in point {request.point.point_id.hex()[:12]}"
        raise PathNotFound(msg, hint="See `donjon ls POINT` for what is.")
