"""The FastAPI application of metrics-svc."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from metrics_svc.config import NAME, Settings
from metrics_svc.counting.handlers import handlers
from metrics_svc.queries.api import router
from touchpoint.http import app
from touchpoint.operators import api as operators


def create_app(settings: Settings, engine: AsyncEngine) -> FastAPI:
    """Build the API."""
    return app.create(NAME, settings, engine, router, operators.router, handlers=handlers)
