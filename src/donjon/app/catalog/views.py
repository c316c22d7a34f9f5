"""What the catalog holds, counted."""

from __future__ import annotations

from dataclasses import dataclass

from donjon.catalog import facts, points, runs, schema
from donjon.catalog.database import Catalog
from donjon.catalog.runs import Run


@dataclass(frozen=True, slots=True)
class PlaceView:
    """A place with points. ``verified_at`` is in Unix seconds."""

    place: str
    points: int
    verified_at: int | None


@dataclass(frozen=True, slots=True)
class CatalogView:
    """How many rows there are, the places, and the last runs."""

    place: str
    revision: str
    counts: dict[str, int]
    places: list[PlaceView]
    runs: list[Run]


def view(catalog: Catalog, last_runs: int) -> CatalogView:
    """What the catalog holds."""
    copies = points.list_copies(catalog)
    counts = {
        "points": len(points.list_points(catalog)),
        "copies": len(copies),
        "snapshots": len(facts.list_snapshots(catalog)),
        "evidence": len(facts.list_evidence(catalog)),
        "restores": len(facts.list_restores(catalog)),
    }
    places = [
        PlaceView(place, sum(copy.place == place for copy in copies), points.verified_at(catalog, place))
        for place in points.places(catalog)
    ]
    revision = schema.revision_of(catalog) or ""
    return CatalogView(catalog.place, revision, counts, places, runs.newest(catalog, last_runs))
