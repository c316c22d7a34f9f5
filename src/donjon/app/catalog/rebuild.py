"""Makes the catalog anew from what it is a cache of: vaults, their copies, and the providers' snapshots."""

from __future__ import annotations

from dataclasses import dataclass, field

from donjon.app import snapshots as providers
from donjon.app.catalog.opening import Places
from donjon.app.catalog.places import owner_by_sessions, rebuild_places
from donjon.catalog import facts, runs
from donjon.catalog.database import Catalog
from donjon.core.errors import IntegrityFailure
from donjon.repository.vault import Vault
from donjon.snapshots.base import Snapshot


@dataclass(slots=True)
class Rebuilt:
    """What was found. ``sealed`` points are those that no key at hand opens; ``problems`` are for people."""

    places: list[str] = field(default_factory=list)
    points: int = 0
    copies: int = 0
    snapshots: int = 0
    evidence: int = 0
    sealed: int = 0
    problems: list[str] = field(default_factory=list)


def rebuild(catalog: Catalog, places: Places) -> Rebuilt:
    """Read all vaults and providers that the plan names. Nothing is written anywhere but into the catalog.

    What is known of runs and of timed restores stays, as it is kept nowhere else, and so does what is known
    of other vaults and workloads. If a place or a provider cannot be read, nothing is changed and its error
    is raised: else what it holds would be forgotten.
    """
    done = Rebuilt()
    vaults = _open_all(places)
    try:
        snapshots = _snapshots(places)
        owner = owner_by_sessions(runs.sessions(catalog))
        surveys = rebuild_places(
            catalog, vaults, lambda vault: places.settings.home / "cache" / vault.vault_id.hex(), owner
        )
    finally:
        for vault in vaults:
            vault.store.close()
    facts.forget_snapshots(catalog, places.plan.workloads)
    for workload, found in snapshots.items():
        facts.replace_snapshots(catalog, workload, found, places=())
    for vault, survey in zip(vaults, surveys, strict=True):
        done.places.append(vault.store.url)
        done.copies += len(survey.copies)
        done.problems += [f"{vault.store.url}: {problem}" for problem in survey.problems]
    by_id = {row.point_id: row for survey in surveys for row in survey.points}
    done.points = len(by_id)
    done.sealed = sum(row.size_bytes is None for row in by_id.values())
    done.snapshots = sum(map(len, snapshots.values()))
    done.evidence = len(facts.list_evidence(catalog))
    return done


def _open_all(places: Places) -> list[Vault]:
    """The vaults of the plan: each vault before the places with copies of it, none twice.

    Raises ``IntegrityFailure`` if a place of copies holds another vault.
    """
    opened: dict[str, Vault] = {}
    try:
        for workload in places.plan.workloads:
            home, *copies = places.of_workload(workload)
            if home not in opened:
                opened[home] = places.open(home)
            for name in copies:
                if name not in opened:
                    opened[name] = places.open_copy(name, opened[home].vault_id)
                elif opened[name].vault_id != opened[home].vault_id:
                    msg = f"{opened[name].store.url}: cannot hold copies of two vaults"
                    raise IntegrityFailure(msg, hint="Give each vault a place of its own for copies.")
    except BaseException:
        for vault in opened.values():
            vault.store.close()
        raise
    return list(opened.values())


def _snapshots(places: Places) -> dict[str, list[Snapshot]]:
    """The snapshots of each workload, at its site and where the plan copies them to."""
    found: dict[str, list[Snapshot]] = {}
    for workload, protected in places.plan.workloads.items():
        if providers.has_snapshots(protected.source):
            for place in providers.places(places.plan, workload):
                found.setdefault(workload, []).extend(place.snapshots.list(workload))
    return found
