"""Alembic's entry: how migrations run is the same for every service."""

from touchpoint.db.migrate import run

run()
