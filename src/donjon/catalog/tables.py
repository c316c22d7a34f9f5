"""The tables of the catalog, as they are after the newest migration. All times are in Unix seconds.

A migration says by itself what it changes and never reads this module: a test compares both.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

METADATA: Final = MetaData()

#: One row for each time that a workload was run, or tried.
RUNS: Final = Table(
    "runs",
    METADATA,
    Column("run_id", String(32), primary_key=True),
    Column("plan", String(63), nullable=False),
    Column("workload", String(63), nullable=False),
    Column("plan_digest", String(64), nullable=False),
    Column("host", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("due_at", BigInteger),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("step", String(32), nullable=False),
    Column("error", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("retryable", Boolean, nullable=False),
    Column("session", String(64), nullable=False),
    Column("point_id", String(64), nullable=False),
    Column("unreadable", BigInteger, nullable=False),
    Column("counts", JSON, nullable=False),
    Column("notes", JSON, nullable=False),
    Index("runs_by_workload", "plan", "workload", "started_at"),
)

#: Who runs a workload at the moment. A row is there while a run is under way, and after its crash.
CLAIMS: Final = Table(
    "claims",
    METADATA,
    Column("plan", String(63), primary_key=True),
    Column("workload", String(63), primary_key=True),
    Column("run_id", String(32), nullable=False),
    Column("host", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

#: Recovery points. What is sealed is empty, and the size null, if no key was at hand to read it.
POINTS: Final = Table(
    "points",
    METADATA,
    Column("point_id", String(64), primary_key=True),
    Column("vault_id", String(32), nullable=False),
    Column("manifest", Text, nullable=False),
    Column("workload", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("size_bytes", BigInteger),
    Column("unreadable", BigInteger, nullable=False),
    Column("tags", JSON, nullable=False),
    Index("points_by_workload", "workload", "time"),
)

#: In which places a point is: its own vault and copies of it.
COPIES: Final = Table(
    "copies",
    METADATA,
    Column("point_id", String(64), ForeignKey("points.point_id", ondelete="CASCADE"), primary_key=True),
    Column("place", Text, primary_key=True),
    Column("stored_at", BigInteger, nullable=False),
    Column("protected_until", BigInteger, nullable=False),
    Column("verified_at", BigInteger),
    Index("copies_by_place", "place"),
)

#: Signed evidence in vaults.
EVIDENCE: Final = Table(
    "evidence",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("vault_id", String(32), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("subject", Text, nullable=False),
    Column("signer", String(32), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("passed", Boolean, nullable=False),
)

#: Snapshots of providers that Donjon made; the fields of ``snapshots.base.Snapshot``.
SNAPSHOTS: Final = Table(
    "snapshots",
    METADATA,
    Column("account", Text, primary_key=True),
    Column("region", Text, primary_key=True),
    Column("snapshot_id", Text, primary_key=True),
    Column("volume_id", Text, nullable=False),
    Column("workload", Text, nullable=False),
    Column("set_id", Text, nullable=False),
    Column("set_size", Integer, nullable=False),
    Column("moment", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("locked_until", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Index("snapshots_by_workload", "workload"),
)

#: Restores that were timed.
RESTORES: Final = Table(
    "restores",
    METADATA,
    Column("restore_id", String(32), primary_key=True),
    Column("point_id", String(64), nullable=False),
    Column("workload", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("passed", Boolean, nullable=False),
    Index("restores_by_workload", "workload", "started_at"),
)
