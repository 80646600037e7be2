"""A run has a purpose: to prove a repair, or to wait for dirty air while a pass is on probation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("test_run", sa.Column("purpose", sa.String(length=16), server_default="repair", nullable=False))
    op.create_index(op.f("ix_ticket_probation_until"), "ticket", ["probation_until"], unique=False)


def downgrade() -> None:
    # an older gateway would take what waits for dirty air for a test run
    op.execute("UPDATE test_run SET voided_at = started_at WHERE purpose = 'probation' AND voided_at IS NULL")
    op.drop_index(op.f("ix_ticket_probation_until"), table_name="ticket")
    op.drop_column("test_run", "purpose")
