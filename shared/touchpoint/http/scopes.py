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
