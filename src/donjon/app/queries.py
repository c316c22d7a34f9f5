"""Questions about recovery points: which there are, and what could not be read for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from donjon.app.verdicts.marks import ShownMark, look_up
from donjon.app.wiring import Workspace
from donjon.core.errors import IntegrityFailure, KeyNotAvailable, KeyServiceUnavailable, UsageError
from donjon.core.units import parse_duration
from donjon.format.manifest import PointBody
from donjon.format.segments import Problem
from donjon.repository.epochs import read_epochs
from donjon.repository.points import (
    OpenPoint,
    Point,
    find_point,
    find_points,
    list_points,
    moment_span,
    open_point,
)
from donjon.repository.reading import ChunkReader
from donjon.repository.tree import Tree
from donjon.repository.vault import Vault


def parse_since(text: str, now: int) -> int:
    """The first second meant by ``--since``: a time, or how long ago, as in ``7d``. Raises ``UsageError``."""
    return now - _ago(text) if _is_duration(text) else moment_span(text)[0]


def parse_until(text: str, now: int) -> int:
    """The last second meant by ``--until``; see ``parse_since``."""
    return now - _ago(text) if _is_duration(text) else moment_span(text)[1]


def _is_duration(text: str) -> bool:
    return text[-1:].isalpha() and not text.endswith("Z")


def _ago(text: str) -> int:
    try:
        return parse_duration(text)
    except UsageError as error:
        msg = f"{text!r} is no time"
        raise UsageError(
            msg, hint="Write it like 2026-11-23T10:00, 2026-11-23, or 7d for 7 days ago."
        ) from error


@dataclass(frozen=True, slots=True)
class PointFilter:
    """Which points are wanted. ``since`` and ``until`` are in Unix seconds, both included.

    ``opened`` wants the sealed parts of all of them, whatever is asked for.
    """

    workload: str | None = None
    tags: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    opened: bool = False

    @property
    def needs_key(self) -> bool:
        """Whether it asks for what is sealed."""
        return self.opened or self.workload is not None or bool(self.tags)

    def takes_time(self, time: int) -> bool:
        """Whether a point of this time is wanted."""
        return (self.since is None or time >= self.since) and (self.until is None or time <= self.until)

    def takes_body(self, body: PointBody) -> bool:
        """Whether a point with this sealed part is wanted; it has to have all the tags."""
        return (self.workload is None or body.workload == self.workload) and set(self.tags) <= set(body.tags)


@dataclass(frozen=True, slots=True)
class ListedPoint:
    """A point; ``body`` is None if no key at hand opens it. ``writer`` is empty if its name is hidden.

    ``protected_until`` is the end of the locks of all that it needs, in Unix seconds; 0 for no locks.
    ``marks`` make it suspect, empty if it is not.
    """

    point: Point
    body: PointBody | None
    writer: str
    protected_until: int
    marks: tuple[ShownMark, ...] = ()


@dataclass(slots=True)
class Listing:
    """The points wanted, oldest first, and the manifests that are damaged."""

    vault: Vault
    points: list[ListedPoint] = field(default_factory=list)
    damaged: list[IntegrityFailure] = field(default_factory=list)

    @property
    def sealed(self) -> int:
        """How many points no key at hand opens."""
        return sum(listed.body is None for listed in self.points)


def list_wanted(workspace: Workspace, wanted: PointFilter, name: str | None = None) -> Listing:
    """The points that ``wanted`` takes, or only the one called ``name``.

    Without a key the sealed parts stay closed, unless the filter or the name needs them. Raises
    ``KeyNotAvailable`` if a key was given and is wrong, or if one is needed.
    """
    with_key = workspace.has_key or wanted.needs_key or name is not None
    vault = workspace.open_for_reading() if with_key else workspace.open_for_listing()
    listing = Listing(vault)
    names = writer_names(vault)
    points = list_points(vault, listing.damaged)
    ends = read_epochs(vault, workspace.cache(vault))
    verdicts = look_up(workspace, vault)
    if name is not None:
        points = [find_point(vault, points, name).point]
    for point in points:
        if not wanted.takes_time(point.time):
            continue
        body = _body(vault, point, listing.damaged) if with_key else None
        if body is not None and not wanted.takes_body(body):
            continue
        # Custody locks a manifest anew only once all that its point needs is.
        until = max(point.manifest.protected_until, ends.name(point.name))
        writer, marks = names.get(point.manifest.writer, ""), verdicts.of(point.point_id)
        listing.points.append(ListedPoint(point, body, writer, until, marks))
    return listing


def open_wanted(vault: Vault, wanted: PointFilter, name: str | None = None) -> list[OpenPoint]:
    """The points that ``wanted`` takes, opened, oldest first; or only the one called ``name``."""
    if name is not None:
        return find_points(vault, name)
    opened = (open_point(vault, point) for point in list_points(vault, []) if wanted.takes_time(point.time))
    return [point for point in opened if wanted.takes_body(point.body)]


def find_two(vault: Vault, first: str, second: str) -> tuple[OpenPoint, OpenPoint]:
    """The points that two names mean. Raises ``PointNotFound``."""
    older, newer = find_points(vault, first, second)
    return older, newer


def _body(vault: Vault, point: Point, damaged: list[IntegrityFailure]) -> PointBody | None:
    try:
        return open_point(vault, point).body
    except KeyServiceUnavailable:
        raise
    except KeyNotAvailable:
        return None  # sealed to others only; listed all the same
    except IntegrityFailure as error:
        damaged.append(error)
        return None


def writer_names(vault: Vault) -> dict[bytes, str]:
    """The names of the writers by their ids; empty without any key, as names are hidden."""
    if not vault.has_secret:
        return {}
    return {
        writer.writer_id: vault.secret.read_label(writer.label, "keyring")
        for writer in vault.keyring.writers.values()
    }


def point_problems(point: Point, body: PointBody, reader: ChunkReader) -> Iterator[Problem]:
    """What could not be read when the point was made."""
    return Tree(OpenPoint(point, body), reader).problems()
