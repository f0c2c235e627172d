"""Alembic's entry: the shared runner does it all."""

from touchpoint.db.migrate import run

run()
