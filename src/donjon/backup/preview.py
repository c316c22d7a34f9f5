"""What a backup would read, without reading it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from donjon.backup.metadata import PreviousCursor
from donjon.backup.previous import previous_path, read_previous
from donjon.format.entries import Kind
from donjon.repository.cache import Cache
from donjon.sources.base import Source

#: Told of each file that would be read, and whether it is new or changed.
Tell = Callable[[str, bytes], None]


@dataclass(slots=True)
class Preview:
    """What a walk met. ``bytes_to_read`` is the size of the files that are new or changed.

    ``others`` are directories, links and the like.
    """

    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    others: int = 0
    size_bytes: int = 0
    bytes_to_read: int = 0
    problems: list[tuple[bytes, str]] = field(default_factory=list)


def preview(source: Source, workload: str, cache: Cache, tell: Tell, *, read_all: bool = False) -> Preview:
    """Walk the source beside the previous point of the workload, as a backup does, and write nothing.

    A backup reads more than this tells if packs that it would rely on are about to lose their lock.
    """
    found = Preview()
    cursor = PreviousCursor(read_previous(previous_path(cache, workload), workload))
    for item in source.items():
        hit = cursor.match(item.depth, item.name)
        if not item.is_file:
            found.others += 1
            continue
        found.size_bytes += item.size
        if hit is not None and item.same_as(hit[0]) and not read_all:
            found.files_unmodified += 1
            continue
        changed = hit is not None and hit[0].kind == Kind.FILE
        found.files_changed += changed
        found.files_new += not changed
        found.bytes_to_read += item.size
        tell("changed" if changed else "new", item.path)
    found.problems.extend(source.problems())
    return found
