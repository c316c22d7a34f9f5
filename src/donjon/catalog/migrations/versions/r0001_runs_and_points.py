"""Runs, claims, points, copies and evidence."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(32), primary_key=True),
        sa.Column("plan", sa.String(63), nullable=False),
        sa.Column("workload", sa.String(63), nullable=False),
        sa.Column("plan_digest", sa.String(64), nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("step", sa.String(32), nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("hint", sa.Text, nullable=False),
        sa.Column("retryable", sa.Boolean, nullable=False),
        sa.Column("session", sa.String(64), nullable=False),
        sa.Column("point_id", sa.String(64), nullable=False),
        sa.Column("unreadable", sa.BigInteger, nullable=False),
        sa.Column("counts", sa.JSON, nullable=False),
        sa.Column("notes", sa.JSON, nullable=False),
    )
    op.create_index("runs_by_workload", "runs", ["plan", "workload", "started_at"])
    op.create_table(
        "claims",
        sa.Column("plan", sa.String(63), primary_key=True),
        sa.Column("workload", sa.String(63), primary_key=True),
        sa.Column("run_id", sa.String(32), nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "points",
        sa.Column("point_id", sa.String(64), primary_key=True),
        sa.Column("vault_id", sa.String(32), nullable=False),
        sa.Column("manifest", sa.Text, nullable=False),
        sa.Column("workload", sa.Text, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("unreadable", sa.BigInteger, nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
    )
    op.create_index("points_by_workload", "points", ["workload", "time"])
    op.create_table(
        "copies",
        sa.Column(
            "point_id", sa.String(64), sa.ForeignKey("points.point_id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("place", sa.Text, primary_key=True),
        sa.Column("stored_at", sa.BigInteger, nullable=False),
        sa.Column("protected_until", sa.BigInteger, nullable=False),
        sa.Column("verified_at", sa.BigInteger),
    )
    op.create_index("copies_by_place", "copies", ["place"])
    op.create_table(
        "evidence",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("vault_id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("signer", sa.String(32), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("passed", sa.Boolean, nullable=False),
    )
