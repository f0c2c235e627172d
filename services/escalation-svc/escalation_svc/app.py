"""The FastAPI application of escalation-svc."""

from fastapi import FastAPI
from touchpoint.db.engine import Sessions
from touchpoint.http import app
from touchpoint.kafka.handlers import Handlers

from escalation_svc import api
from escalation_svc.config import Settings

NAME = "escalation-svc"


def create_app(handlers: Handlers, settings: Settings, sessions: Sessions) -> FastAPI:
    """Build the API; `handlers` are its consumer's, for what it tells of an event."""
    return app.create(NAME, settings, sessions, api.router, handlers=handlers)
