"""The FastAPI application of escalation-svc."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from escalation_svc.cases import api as cases
from escalation_svc.cases.handlers import with_policies
from escalation_svc.config import NAME, Settings
from escalation_svc.policies.service import load
from touchpoint.http import app
from touchpoint.operators import api as operators


def create_app(settings: Settings, engine: AsyncEngine) -> FastAPI:
    """Build the API. Raises UsageError if the policy file is missing or invalid."""
    handlers = with_policies(load(settings.policies_path))
    created = app.create(NAME, settings, engine, cases.router, operators.router, handlers=handlers)
    created.answer_list("/v1/escalations", cases.list_escalations)
    return created
