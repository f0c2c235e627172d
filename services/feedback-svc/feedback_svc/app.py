"""The FastAPI application of feedback-svc."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from feedback_svc import api
from feedback_svc.config import Settings
from feedback_svc.handlers import handlers
from touchpoint.http import app
from touchpoint.operators import api as operators

NAME = "feedback-svc"


def create_app(settings: Settings, engine: AsyncEngine) -> FastAPI:
    """Build the API."""
    created = app.create(NAME, settings, engine, api.router, operators.router, handlers=handlers)
    created.answer_list("/v1/feedback", api.list_feedback)
    return created
