"""Machines that nobody has registered, and what is held of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stranger",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("convention", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("serial", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("fw", sa.Text(), nullable=False),
        sa.Column("first_heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("position", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("machine", sa.String(length=64), nullable=True),
        sa.Column("handled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heard", sa.Integer(), nullable=False),
        sa.Column("held", sa.Integer(), nullable=False),
        sa.Column("held_bytes", sa.Integer(), nullable=False),
        sa.Column("beyond", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Integer(), nullable=False),
        sa.Column("dismissed", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stranger")),
        sa.UniqueConstraint("convention", "name", name=op.f("uq_stranger_convention_name")),
    )
    op.create_index(op.f("ix_stranger_state"), "stranger", ["state"], unique=False)
    op.create_index(op.f("ix_stranger_machine"), "stranger", ["machine"], unique=False)
    with op.batch_alter_table("quarantine") as quarantine:
        quarantine.add_column(sa.Column("retained", sa.Boolean(), nullable=False, server_default=sa.false()))
        quarantine.add_column(sa.Column("stranger_id", sa.Integer(), nullable=True))
        quarantine.create_foreign_key(op.f("fk_quarantine_stranger_id_stranger"), "stranger", ["stranger_id"], ["id"])
        quarantine.create_index(op.f("ix_quarantine_stranger_id"), ["stranger_id"], unique=False)
    with op.batch_alter_table("quarantine") as quarantine:
        quarantine.alter_column("retained", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("quarantine") as quarantine:
        quarantine.drop_index(op.f("ix_quarantine_stranger_id"))
        quarantine.drop_constraint(op.f("fk_quarantine_stranger_id_stranger"), type_="foreignkey")
        quarantine.drop_column("stranger_id")
        quarantine.drop_column("retained")
    op.drop_table("stranger")
