"""What is to be backed up, and what was met."""

from __future__ import annotations

from dataclasses import dataclass, field

from donjon.format.segments import Problem
from donjon.sources.base import Source


@dataclass(frozen=True, slots=True)
class Job:
    """What to back up and under which name.

    Packs of which less than ``compact_percent`` is needed are not relied on, so that they can go one day.
    """

    source: Source
    workload: str
    host: str
    paths: tuple[bytes, ...]
    tags: tuple[str, ...] = ()
    read_all: bool = False
    compact_percent: float = 0.0


@dataclass(slots=True)
class Counts:
    """What a backup met. Sizes are in bytes."""

    files: int = 0
    directories: int = 0
    others: int = 0
    size_bytes: int = 0
    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    bytes_read: int = 0
    bytes_unmodified: int = 0
    problems: list[Problem] = field(default_factory=list)
