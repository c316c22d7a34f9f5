"""Recovery points: listing them, naming them, opening what is sealed in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from msgspec import structs

from donjon.codec.digest import digest
from donjon.core.errors import IntegrityFailure, ObjectNotFound, PointNotFound, UsageError
from donjon.format import names
from donjon.format.manifest import Manifest, PackSet, PointBody, Use, open_body
from donjon.format.objects import ObjectKind, parse_object
from donjon.repository.checkpoints import Signed, newest_trusted
from donjon.repository.fetch import fetch_object
from donjon.repository.vault import Vault
from donjon.stores.first_versions import first_of_each


@dataclass(frozen=True)
class Point:
    """A committed recovery point.

    ``store_time`` is when the store received it, in Unix seconds, never before the point that the same writer
    made before it: the order of points does not depend on any clock of a client. ``time`` is the same, or
    what a checkpoint says if that is earlier: then the store is a later copy.
    """

    point_id: bytes
    name: str
    manifest: Manifest
    time: int
    store_time: int

    @cached_property
    def uses(self) -> PackSet:
        """The packs that it needs."""
        return PackSet(self.manifest.uses)


@dataclass(frozen=True)
class OpenPoint:
    """A point whose sealed part has been opened."""

    point: Point
    body: PointBody

    @property
    def point_id(self) -> bytes:
        """32 bytes."""
        return self.point.point_id


def read_manifest(vault: Vault, name: str, data: bytes) -> Manifest:
    """A manifest, its signature checked. Raises ``IntegrityFailure``."""
    manifest = parse_object(data, ObjectKind.MANIFEST, Manifest, name)
    number = vault.verify_by_writer(data, manifest.writer, name)
    if name != names.manifest(manifest.writer, manifest.sequence):
        msg = f"{name}: holds another manifest"
        raise IntegrityFailure(msg, hint="Objects were swapped. Do not trust this store.")
    vault.keyring.successions.signed(manifest, number)
    return manifest


def list_points(vault: Vault, damaged: list[IntegrityFailure] | None = None) -> list[Point]:
    """All points, oldest first.

    A damaged manifest is added to ``damaged`` and left out; without that list it is raised.
    """
    damaged_here: list[IntegrityFailure] = []
    vault.read_successions()
    newest = _newest_checkpoint(vault, damaged_here)
    found: list[tuple[bytes, Manifest, int]] = []
    shared: dict[Use, Use] = {}
    for info in first_of_each(vault.store.list(names.MANIFESTS)):
        try:
            data = fetch_object(vault.store, info.name, ObjectKind.MANIFEST)
            manifest = read_manifest(vault, info.name, data)
        except ObjectNotFound:
            continue
        except IntegrityFailure as error:
            damaged_here.append(error)
            continue
        # Points after each other mostly need the same: each use is kept in memory once.
        uses = tuple(shared.setdefault(use, use) for use in manifest.uses)
        found.append((digest(data), structs.replace(manifest, uses=uses), info.stored_at))
    points = arrange(found, newest.times() if newest else {})
    damaged_here += vault.watch(points, newest)
    if damaged is not None:
        damaged += damaged_here
    elif damaged_here:
        raise damaged_here[0]
    return points


def arrange(found: Iterable[tuple[bytes, Manifest, int]], times: Mapping[bytes, int]) -> list[Point]:
    """Points by id, manifest and time of their store, put in order; ``times`` are those of a checkpoint."""
    points = []
    latest: dict[bytes, tuple[int, int]] = {}
    for point_id, manifest, stored_at in sorted(found, key=lambda row: (row[1].writer, row[1].sequence)):
        before = latest.get(manifest.writer, (0, 0))
        store_time = max(stored_at, before[0])
        time = max(min(stored_at, times.get(point_id, stored_at)), before[1])
        latest[manifest.writer] = (store_time, time)
        name = names.manifest(manifest.writer, manifest.sequence)
        points.append(Point(point_id, name, manifest, time, store_time))
    return sorted(points, key=lambda point: (point.time, point.manifest.writer, point.manifest.sequence))


def _newest_checkpoint(vault: Vault, damaged: list[IntegrityFailure]) -> Signed | None:
    """It tells when points came to the store that they were copied from."""
    try:
        return newest_trusted(vault)
    except IntegrityFailure as error:
        damaged.append(error)
        return None


def open_point(vault: Vault, point: Point) -> OpenPoint:
    """Open the sealed part. Raises ``KeyNotAvailable``, ``IntegrityFailure``."""
    key = vault.session_key(point.manifest.writer, point.manifest.session)
    return OpenPoint(point, open_body(key, point.manifest.sealed, point.name))


_TIME = re.compile(r"^\d{4}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d)?)?)?(Z|[+-]\d\d:?\d\d)?$")
_HEX = re.compile(r"^[0-9a-f]{4,64}$")


def find_point(vault: Vault, points: Iterable[Point], name: str) -> OpenPoint:
    """The point that ``name`` means: ``latest``, ``WORKLOAD@latest``, ``WORKLOAD@TIME`` or a prefix of
    an id (at least 4 hexadecimal digits). A time means the last point not after it.

    Raises ``PointNotFound`` if there is none or the prefix fits several.
    """
    listed = list(points)
    workload, separator, moment = name.rpartition("@")
    if separator or name == "latest":
        return _by_time(vault, listed, workload if separator else None, moment)
    if not _HEX.match(name):
        msg = f"{name!r} is no name of a point"
        raise PointNotFound(
            msg, hint="Use latest, WORKLOAD@latest, WORKLOAD@TIME or an id of `donjon points`."
        )
    return open_point(vault, point_by_id(vault, listed, name))


def point_by_id(vault: Vault, points: Iterable[Point], name: str) -> Point:
    """The point whose id starts with ``name``, for which no key is needed. Raises ``PointNotFound``."""
    fitting = [point for point in points if point.point_id.hex().startswith(name)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        msg = f"{name} fits {len(fitting)} points"
        raise PointNotFound(msg, hint="Give more digits of the id.")
    msg = f"there is no point {name} in {vault.store.url}"
    raise PointNotFound(msg, hint="See `donjon points`.")


def is_point_id(name: str) -> bool:
    """Whether this is an id of a point or the start of one, and not a name that is relative to others."""
    return _HEX.match(name) is not None


def find_points(vault: Vault, *names: str) -> list[OpenPoint]:
    """The points that the names mean.

    Raises like ``find_point``, and ``IntegrityFailure`` for a name that is relative to other points if one
    of these is damaged: an older point would silently stand for it.
    """
    damaged: list[IntegrityFailure] = []
    points = list_points(vault, damaged)
    for name in names:
        if damaged and not _HEX.match(name):
            msg = f"{damaged[0].message}; so {name!r} may mean an older point than it should"
            raise IntegrityFailure(msg, hint="Name the point by its id; `donjon points` shows them.")
    return [find_point(vault, points, name) for name in names]


def _by_time(vault: Vault, points: list[Point], workload: str | None, moment: str) -> OpenPoint:
    until = None if moment == "latest" else parse_moment(moment)
    for point in reversed(points):
        if until is not None and point.time > until:
            continue
        opened = open_point(vault, point)
        if workload is None or opened.body.workload == workload:
            return opened
    what = "point" if workload is None else f"point of the workload {workload!r}"
    before = "" if until is None else f" at or before {moment}"
    msg = f"there is no {what}{before} in {vault.store.url}"
    raise PointNotFound(msg, hint="See `donjon points`.")


def parse_moment(text: str) -> int:
    """Unix seconds of an ISO 8601 time; without a zone it is local time. A time names the end of its
    last unit: ``10:00`` includes all of that minute.

    Raises ``UsageError``.
    """
    return moment_span(text)[1]


def moment_span(text: str) -> tuple[int, int]:
    """The first and the last second that such a time names. Raises ``UsageError``."""
    match = _TIME.match(text)
    if not match:
        msg = f"{text!r} is no time"
        raise UsageError(msg, hint="Write it like 2026-11-23T10:00 or 2026-11-23.")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        msg = f"{text!r} is no time: {error}"
        raise UsageError(msg) from error
    unit_s = 86_399
    if match[1]:
        unit_s = 3_599 if not match[2] else 59 if not match[3] else 0
    first = int((moment if moment.tzinfo else moment.astimezone()).astimezone(UTC).timestamp())
    return first, first + unit_s


def opened(vault: Vault, points: Iterable[Point]) -> Iterator[OpenPoint]:
    """Each point with its sealed part opened."""
    return (open_point(vault, point) for point in points)
