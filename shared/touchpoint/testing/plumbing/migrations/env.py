"""Alembic's entry point."""

from touchpoint.db.migrate import run

run()
