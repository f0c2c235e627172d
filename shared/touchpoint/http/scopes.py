"""Scopes of API keys. Each route requires one scope."""

from enum import StrEnum


class Scope(StrEnum):
    """Scopes of API keys."""

    EVENTS_WRITE = "events:write"
    """Send events and feedback."""
    EVENTS_READ = "events:read"
    """Query the processing status of an event."""
    FEEDBACK_READ = "feedback:read"
    CUSTOMERS_READ = "customers:read"
    """Read customers' timelines."""
    ESCALATIONS_READ = "escalations:read"
    ESCALATIONS_WRITE = "escalations:write"
    """Acknowledge and resolve cases."""
    METRICS_READ = "metrics:read"
    OPS_READ = "ops:read"
    """View consumers, dead letters, replays and the audit trail of all tenants: for operators, at the admin address."""
    OPS_REPLAY = "ops:replay"
    """Pause and resume consumers, redrive and discard dead letters, run replays, for all tenants."""


OPERATORS = frozenset({Scope.OPS_READ, Scope.OPS_REPLAY})
"""Scopes that are not limited to the key's tenant."""
