"""Alembic's entry point; the shared runner applies the migrations."""

from touchpoint.db.migrate import run

run()
