"""Metrics of feedback. Tenants and customers are never labels."""

from collections import Counter as Counts
from collections.abc import Sequence
from operator import attrgetter

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncSession

from feedback_svc.feedback.models import Feedback
from touchpoint.db.engine import once_committed

FEEDBACK_STORED = Counter(
    "touchpoint_feedback_stored_total",
    "Feedback stored and committed, by kind and channel.",
    ["kind", "channel"],
)


_KIND_AND_CHANNEL = attrgetter("kind", "channel")


def count_stored(session: AsyncSession, rows: Sequence[Feedback]) -> None:
    """Count stored feedback after the session has committed."""
    counts = Counts(map(_KIND_AND_CHANNEL, rows))

    def count() -> None:
        for (kind, channel), number in counts.items():
            FEEDBACK_STORED.labels(kind, channel).inc(number)

    once_committed(session, count)
