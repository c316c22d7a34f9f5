"""Snapshots of providers, and restores that were timed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "snapshots",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("region", sa.Text, primary_key=True),
        sa.Column("snapshot_id", sa.Text, primary_key=True),
        sa.Column("volume_id", sa.Text, nullable=False),
        sa.Column("workload", sa.Text, nullable=False),
        sa.Column("set_id", sa.Text, nullable=False),
        sa.Column("set_size", sa.Integer, nullable=False),
        sa.Column("moment", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("locked_until", sa.BigInteger, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("snapshots_by_workload", "snapshots", ["workload"])
    op.create_table(
        "restores",
        sa.Column("restore_id", sa.String(32), primary_key=True),
        sa.Column("point_id", sa.String(64), nullable=False),
        sa.Column("workload", sa.Text, nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("duration_s", sa.Float, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("passed", sa.Boolean, nullable=False),
    )
    op.create_index("restores_by_workload", "restores", ["workload", "started_at"])
