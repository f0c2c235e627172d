"""Every event of Touchpoint, declared once, under the service that writes it."""

from touchpoint.contracts import escalations, feedback, touchpoints

__all__ = ["escalations", "feedback", "touchpoints"]
