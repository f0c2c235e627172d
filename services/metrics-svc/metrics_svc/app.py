"""The API of metrics-svc, put together."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from metrics_svc.api import router
from metrics_svc.config import Settings
from metrics_svc.handlers import handlers
from touchpoint.http import app
from touchpoint.operators import api as operators

NAME = "metrics-svc"


def create_app(settings: Settings, engine: AsyncEngine) -> FastAPI:
    """Answers questions about metrics, and what became of an event in this service."""
    return app.create(NAME, settings, engine, router, operators.router, handlers=handlers)
