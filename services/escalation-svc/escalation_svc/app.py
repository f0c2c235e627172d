"""The FastAPI application of escalation-svc."""

from fastapi import FastAPI

from escalation_svc import api
from escalation_svc.config import Settings
from escalation_svc.handlers import with_policies
from escalation_svc.policies import load
from touchpoint.db.engine import Sessions
from touchpoint.http import app

NAME = "escalation-svc"


def create_app(settings: Settings, sessions: Sessions) -> FastAPI:
    """Build the API. Raises UsageError on a policy file that cannot work."""
    handlers = with_policies(load(settings.policies_path))
    return app.create(NAME, settings, sessions, api.router, handlers=handlers)
