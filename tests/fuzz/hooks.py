"""Schemathesis hooks for this API: values that it cannot generate, and refusals that no schema can express."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.fuzz import beyond
from touchpoint.http import pagination

KEY = "Idempotency-Key"
EXAMPLE = "8e03978e-40d5-43e8-bc93-6894a57f9324"
"""The document's example, which every request contains that does not test this header."""


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Set a new key, because a used one gets the request refused; a cursor as the API returns it; a score for NPS."""
    fits = case.meta is not None and case.meta.generation.mode.is_positive
    if (key := case.headers.get(KEY)) is not None and (fits or key == EXAMPLE):
        case.headers[KEY] = str(uuid4())
    if fits and "cursor" in case.query:
        case.query["cursor"] = pagination.encode(datetime.now(UTC), uuid4())
    body = case.body if isinstance(case.body, dict) else {}
    if case.body is None:
        case.body = []  # the document says that null equals no body
    if case.path == "/v1/feedback" and body.get("kind") == "nps" and body.get("score") is None:
        body["score"] = {"value": 3, "min": 0, "max": 10}


@schemathesis.check
def well_formed_data_acceptance(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> bool | None:
    """`positive_data_acceptance`, except for refusals that no schema can express."""
    if response.status_code == 422 and beyond.schemas(response.json()):
        return None
    return positive_data_acceptance(ctx, response, case)
