"""Metrics of clocks."""

from collections.abc import Iterable, Mapping

from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy.ext.asyncio import AsyncSession

from escalation_svc.clocks.decisions import ClockState
from touchpoint.db.engine import once_committed

CLOCKS_SETTLED = Counter(
    "touchpoint_escalation_clocks_settled_total",
    "First-response clocks that ended, by outcome: achieved, breached or cancelled. Imported history is not counted.",
    ["outcome"],
)
CLOCKS_OVERDUE = Gauge(
    "touchpoint_escalation_clocks_overdue",
    "Active clocks past due that have not fired (counted up to 10000): the timer is late, or the consumer has not read "
    "past their due time.",
)
TIMER_LATENESS = Histogram(
    "touchpoint_escalation_timer_lateness_seconds",
    "Seconds from when a warning or breach was due, or its ticket was recorded if later, until the timer acted.",
    buckets=(0.1, 0.25, 0.5, 1, 1.5, 2, 5, 15, 60, 300, 3600),
)


def count_settled(session: AsyncSession, settled: Mapping[ClockState, int]) -> None:
    """Count the clocks that ended, after the session has committed."""

    def count() -> None:
        for outcome, number in settled.items():
            CLOCKS_SETTLED.labels(outcome).inc(number)

    once_committed(session, count)


def observe_lateness(session: AsyncSession, seconds: Iterable[float]) -> None:
    """Observe how late the timer acted, after the session has committed."""

    def observe() -> None:
        for late in seconds:
            TIMER_LATENESS.observe(late)

    once_committed(session, observe)
