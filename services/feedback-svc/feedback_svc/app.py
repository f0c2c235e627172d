"""The FastAPI application of feedback-svc."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from feedback_svc.config import NAME, Settings
from feedback_svc.feedback import api as feedback
from feedback_svc.handlers import handlers
from feedback_svc.timeline import api as timeline
from touchpoint.http import app
from touchpoint.operators import api as operators


def create_app(settings: Settings, engine: AsyncEngine) -> FastAPI:
    """Build the API."""
    created = app.create(NAME, settings, engine, feedback.router, timeline.router, operators.router, handlers=handlers)
    created.answer_list("/v1/feedback", feedback.list_feedback)
    return created
