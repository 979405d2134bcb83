"""Alembic migrations, applied by `jobdeck db upgrade` and, to the embedded database, at its first start."""
