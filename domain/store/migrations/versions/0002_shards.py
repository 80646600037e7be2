"""Gateways that share the shards: who works which of them, and a cursor for each spool instead of each set of shards.

The cursors themselves are not taken over: what a spool still keeps is folded once more, and is known by its keys.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "shard_lease",
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("gateway", sa.String(length=64), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("shard", name=op.f("pk_shard_lease")),
    )
    op.drop_table("gateway_cursor")
    op.create_table(
        "spool_cursor",
        sa.Column("spool", sa.String(length=64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("spool", name=op.f("pk_spool_cursor")),
    )


def downgrade() -> None:
    op.drop_table("spool_cursor")
    op.create_table(
        "gateway_cursor",
        sa.Column("gateway", sa.String(length=64), nullable=False),
        sa.Column("position", sa.String(length=64), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("gateway", name=op.f("pk_gateway_cursor")),
    )
    op.drop_table("shard_lease")
