"""A customer may belong to a dealer (service-process.md §7), who sees its sites, machines and tickets, and no others."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # one statement that both databases know; Alembic's own way would copy the table on SQLite
    op.execute(
        "ALTER TABLE customer ADD COLUMN dealer_id INTEGER CONSTRAINT fk_customer_dealer_id_person REFERENCES person (id)"
    )
    op.create_index(op.f("ix_customer_dealer_id"), "customer", ["dealer_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_customer_dealer_id"), table_name="customer")
    op.execute("ALTER TABLE customer DROP COLUMN dealer_id")
