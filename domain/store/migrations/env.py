"""Runs migrations on the connection that ``domain.store.schema`` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from domain.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
