"""Recovery points, and the places that have a copy of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, func, select, update

from donjon.catalog.database import Catalog, upsert
from donjon.catalog.tables import COPIES, POINTS


@dataclass(frozen=True, slots=True)
class PointRow:
    """A committed point. Ids are in hexadecimal, times in Unix seconds.

    ``workload`` is empty and ``size_bytes`` None if no key was at hand when the vault was read.
    """

    point_id: str
    vault_id: str
    manifest: str
    time: int
    workload: str = ""
    size_bytes: int | None = None
    unreadable: int = 0
    tags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class CopyRow:
    """A point in one place: the address of a store, which holds its vault or a copy of that.

    ``protected_until`` is 0 without locks; ``verified_at`` None if the place was never found sound since.
    """

    point_id: str
    place: str
    stored_at: int
    protected_until: int
    verified_at: int | None = None


def put_points(catalog: Catalog, points: Iterable[PointRow], copies: Iterable[CopyRow]) -> None:
    """Write down points and their copies. What is known is kept where a row does not know it."""
    point_rows = [asdict(point) | {"tags": list(point.tags)} for point in points]
    copy_rows = [asdict(copy) for copy in copies]

    def work(connection: Connection) -> None:
        known = [row for row in point_rows if row["size_bytes"] is not None]
        sealed = [row for row in point_rows if row["size_bytes"] is None]
        upsert(connection, POINTS, known)
        upsert(connection, POINTS, sealed, keep=("workload", "size_bytes", "unreadable", "tags"))
        upsert(connection, COPIES, copy_rows, keep=("verified_at",))

    catalog.write(work)


def replace_place(
    catalog: Catalog, place: str, points: Sequence[PointRow], copies: Sequence[CopyRow]
) -> None:
    """Let ``copies`` be all that ``place`` has. A point that is in no place any more goes."""
    put_points(catalog, points, ())
    rows = [asdict(copy) for copy in copies]

    def work(connection: Connection) -> None:
        before = select(COPIES.c.point_id, COPIES.c.verified_at).where(COPIES.c.place == place)
        verified = {row.point_id: row.verified_at for row in connection.execute(before)}
        connection.execute(delete(COPIES).where(COPIES.c.place == place))
        for row in rows:
            row["verified_at"] = row["verified_at"] or verified.get(row["point_id"])
        upsert(connection, COPIES, rows)
        connection.execute(delete(POINTS).where(POINTS.c.point_id.not_in(select(COPIES.c.point_id))))

    catalog.write(work)


def mark_verified(catalog: Catalog, place: str, at: int, *, but: Collection[str] = ()) -> None:
    """``place`` was found sound at a time: so are all copies that it had by then, except points ``but``."""
    wanted = (COPIES.c.place == place) & (COPIES.c.stored_at <= at)
    newer = wanted & ((COPIES.c.verified_at.is_(None)) | (COPIES.c.verified_at < at))
    if but:
        newer &= COPIES.c.point_id.not_in(list(but))
    catalog.write(lambda connection: connection.execute(update(COPIES).where(newer).values(verified_at=at)))


def places(catalog: Catalog, vault_ids: Collection[str] | None = None) -> list[str]:
    """Every place that has points, or points of these vaults."""
    query = select(COPIES.c.place).distinct().order_by(COPIES.c.place)
    if vault_ids is not None:
        query = query.join(POINTS).where(POINTS.c.vault_id.in_(list(vault_ids)))
    return catalog.read(lambda connection: list(connection.execute(query).scalars()))


def verified_at(catalog: Catalog, place: str) -> int | None:
    """When a place was last found sound."""
    query = select(func.max(COPIES.c.verified_at)).where(COPIES.c.place == place)
    return catalog.read(lambda connection: connection.execute(query).scalar())


def list_points(catalog: Catalog, workload: str | None = None) -> list[PointRow]:
    """Points of one workload or of all, oldest first."""
    query = select(POINTS).order_by(POINTS.c.time, POINTS.c.point_id)
    if workload is not None:
        query = query.where(POINTS.c.workload == workload)
    return catalog.read(
        lambda connection: [
            PointRow(**dict(row._mapping) | {"tags": tuple(row.tags)})  # noqa: SLF001
            for row in connection.execute(query)
        ]
    )


def list_copies(catalog: Catalog, workload: str | None = None) -> list[CopyRow]:
    """Copies of the points of one workload or of all."""
    query = select(COPIES).order_by(COPIES.c.point_id, COPIES.c.place)
    if workload is not None:
        query = query.join(POINTS).where(POINTS.c.workload == workload)
    return catalog.read(
        lambda connection: [CopyRow(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001
    )


def newest_point(catalog: Catalog, workload: str) -> PointRow | None:
    """The newest point of a workload."""
    query = select(POINTS).where(POINTS.c.workload == workload).order_by(POINTS.c.time.desc()).limit(1)
    found = catalog.read(lambda connection: connection.execute(query).one_or_none())
    return None if found is None else PointRow(**dict(found._mapping) | {"tags": tuple(found.tags)})  # noqa: SLF001


def manifests_of(catalog: Catalog, vault_id: str) -> dict[str, str]:
    """The ids of the known points of a vault by the names of their manifests."""
    query = select(POINTS.c.manifest, POINTS.c.point_id).where(POINTS.c.vault_id == vault_id)
    return catalog.read(lambda connection: {row.manifest: row.point_id for row in connection.execute(query)})
