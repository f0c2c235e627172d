"""Policy files of escalation-svc for tests: a test names the fields that matter to it."""

import json
from typing import Any

TARGET_SECONDS = {"urgent": 900, "high": 3600, "normal": 14_400, "low": 86_400}
"""First-response targets by priority, unless a test sets others."""


def policy(name: str = "p", position: int = 1, **fields: Any) -> dict[str, Any]:
    """A policy: a case of reason `detractor` and priority `high` for each feedback, unless `fields` say otherwise."""
    defaults = {"event": "feedback.submitted", "reason": "detractor", "priority": "high"}
    return {"position": position, "name": name, **defaults, **fields}


def condition(field: str, operator: str, value: Any) -> dict[str, Any]:
    """A condition of a policy's `all` or `any`."""
    return {"field": field, "operator": operator, "value": value}


def timing(**seconds: float) -> dict[str, Any]:
    """The first-response clock: `seconds` are its targets by priority; a warning is due after 80 % of a target."""
    return {"target_seconds": {**TARGET_SECONDS, **seconds}, "warn_at": 0.8}


def policy_file(*policies: dict[str, Any], **seconds: float) -> str:
    """The text of a policy file, as JSON, which YAML includes."""
    return json.dumps({"first_response": timing(**seconds), "policies": list(policies)})


DETRACTORS = [condition("kind", "is", "nps"), condition("normalised_score", "at_most", 0.6)]
"""Conditions of a detractor: at most 6 of 10."""

QUICK = policy_file(policy("detractor", all=DETRACTORS), urgent=1, high=1, normal=1, low=1)
"""A case for each detractor, and clocks that breach after a second."""
