"""The FastAPI application of feedback-svc."""

from fastapi import FastAPI

from feedback_svc import api
from feedback_svc.config import Settings
from feedback_svc.handlers import handlers
from touchpoint.db.engine import Sessions
from touchpoint.http import app

NAME = "feedback-svc"


def create_app(settings: Settings, sessions: Sessions) -> FastAPI:
    """Build the API."""
    return app.create(NAME, settings, sessions, api.router, handlers=handlers)
