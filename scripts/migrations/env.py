"""Alembic's entry: always online, always on the connection that `scripts.migrations` was given."""

from alembic import context

import mappings.tables
from integration.storage.tables import Base

assert mappings.tables  # noqa: S101 - imported for its tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
