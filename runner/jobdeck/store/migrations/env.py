"""Alembic's entry: migrations run on a connection that `jobdeck.store.migrate` hands over."""

from __future__ import annotations

from alembic import context

from jobdeck.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    # SQLite changes tables by copying them; Alembic's batch mode does that.
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
