"""The API of metrics-svc, put together."""

from fastapi import FastAPI

from metrics_svc.api import router
from metrics_svc.config import Settings
from metrics_svc.handlers import handlers
from touchpoint.db.engine import Sessions
from touchpoint.http import app

NAME = "metrics-svc"


def create_app(settings: Settings, sessions: Sessions) -> FastAPI:
    """Answers questions about metrics, and what became of an event in this service."""
    return app.create(NAME, settings, sessions, router, handlers=handlers)
