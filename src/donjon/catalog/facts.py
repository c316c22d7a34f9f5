"""Snapshots, evidence and timed restores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, select

from donjon.catalog.database import Catalog, upsert
from donjon.catalog.tables import EVIDENCE, RESTORES, SNAPSHOTS
from donjon.snapshots.base import Snapshot, SnapshotState


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """Evidence of a vault. ``digest``, ``vault_id`` and ``signer`` are in hexadecimal."""

    digest: str
    vault_id: str
    kind: str
    subject: str
    signer: str
    created_at: int
    passed: bool


@dataclass(frozen=True, slots=True)
class Restore:
    """A restore that was timed. ``purpose`` is ``restore`` or ``drill``; times are in Unix seconds."""

    restore_id: str
    point_id: str
    workload: str
    place: str
    purpose: str
    started_at: int
    duration_s: float
    size_bytes: int
    passed: bool


def replace_snapshots(
    catalog: Catalog, workload: str, snapshots: Iterable[Snapshot], *, places: Iterable[tuple[str, str]]
) -> None:
    """Let ``snapshots`` be all that there are of a workload in ``places``: pairs of account and region."""
    rows = [asdict(snapshot) | {"state": snapshot.state.value} for snapshot in snapshots]
    table = SNAPSHOTS.c

    def work(connection: Connection) -> None:
        for account, region in places:
            there = (table.account == account) & (table.region == region)
            connection.execute(delete(SNAPSHOTS).where((table.workload == workload) & there))
        upsert(connection, SNAPSHOTS, rows)

    catalog.write(work)


def forget_snapshots(catalog: Catalog, workloads: Iterable[str]) -> None:
    """Forget the snapshots of some workloads, before they are listed anew."""
    query = delete(SNAPSHOTS).where(SNAPSHOTS.c.workload.in_(list(workloads)))
    catalog.write(lambda connection: connection.execute(query))


def list_snapshots(catalog: Catalog, workload: str | None = None) -> list[Snapshot]:
    """Snapshots of one workload or of all, oldest first."""
    query = select(SNAPSHOTS).order_by(SNAPSHOTS.c.created_at, SNAPSHOTS.c.snapshot_id)
    if workload is not None:
        query = query.where(SNAPSHOTS.c.workload == workload)
    return catalog.read(
        lambda connection: [
            Snapshot(**dict(row._mapping) | {"state": SnapshotState(row.state)})  # noqa: SLF001
            for row in connection.execute(query)
        ]
    )


def replace_evidence(catalog: Catalog, vault_id: str, found: Iterable[EvidenceRecord]) -> None:
    """Let ``found`` be all evidence of a vault."""
    rows = [asdict(one) for one in found]

    def work(connection: Connection) -> None:
        connection.execute(delete(EVIDENCE).where(EVIDENCE.c.vault_id == vault_id))
        upsert(connection, EVIDENCE, rows)

    catalog.write(work)


def put_evidence(catalog: Catalog, evidence: EvidenceRecord) -> None:
    """Write down evidence."""
    catalog.write(lambda connection: upsert(connection, EVIDENCE, [asdict(evidence)]))


def list_evidence(catalog: Catalog) -> list[EvidenceRecord]:
    """All evidence, oldest first."""
    query = select(EVIDENCE).order_by(EVIDENCE.c.created_at, EVIDENCE.c.digest)
    return catalog.read(
        lambda connection: [EvidenceRecord(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001
    )


def put_restore(catalog: Catalog, restore: Restore) -> None:
    """Write down a restore that was timed."""
    catalog.write(lambda connection: upsert(connection, RESTORES, [asdict(restore)]))


def list_restores(catalog: Catalog, workload: str | None = None) -> list[Restore]:
    """Timed restores of one workload or of all, oldest first."""
    query = select(RESTORES).order_by(RESTORES.c.started_at, RESTORES.c.restore_id)
    if workload is not None:
        query = query.where(RESTORES.c.workload == workload)
    return catalog.read(
        lambda connection: [Restore(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001
    )
