"""What an API key may do. A route names the one scope it needs."""

from enum import StrEnum


class Scope(StrEnum):
    """Scopes of API keys."""

    EVENTS_WRITE = "events:write"
    """Send events and feedback."""
    EVENTS_READ = "events:read"
    """Ask what became of an event."""
    FEEDBACK_READ = "feedback:read"
    CUSTOMERS_READ = "customers:read"
    """Read customers' timelines."""
    ESCALATIONS_READ = "escalations:read"
    ESCALATIONS_WRITE = "escalations:write"
    """Acknowledge and resolve cases."""
    METRICS_READ = "metrics:read"
    OPS_READ = "ops:read"
    """See consumers, dead letters, replays and the audit, of all tenants: for operators, at the admin address."""
    OPS_REPLAY = "ops:replay"
    """Pause and resume consumers, redrive and discard dead letters, replay; likewise of all tenants."""


OPERATORS = frozenset({Scope.OPS_READ, Scope.OPS_REPLAY})
"""Scopes that stand above tenants."""
