"""The contracts of all events, one module per service that writes them; each event is declared exactly once."""

from touchpoint.contracts import escalations, feedback, touchpoints

__all__ = ["escalations", "feedback", "touchpoints"]
