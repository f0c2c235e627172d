"""Names of escalation-svc's metrics and log events. No tenant is a label, but those that were asked for."""

from collections import Counter as Counts
from collections.abc import Iterable, Mapping

from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy.ext.asyncio import AsyncSession

from escalation_svc.clocks import ClockState
from touchpoint.contracts.escalations import EscalationOpened
from touchpoint.db.engine import once_committed

CASES_OPENED = Counter(
    "touchpoint_escalation_cases_opened_total", "Cases opened, by why a person is needed.", ["reason"]
)
CLOCKS_SETTLED = Counter(
    "touchpoint_escalation_clocks_settled_total",
    "First-response clocks that ended, by how: achieved, breached, cancelled. Imported history is left out.",
    ["outcome"],
)
CLOCKS_OVERDUE = Gauge(
    "touchpoint_escalation_clocks_overdue",
    "Running clocks past due that have not fired (at most 10000 are counted): the timer is late, or the consumer has "
    "not read that far.",
)
TIMER_LATENESS = Histogram(
    "touchpoint_escalation_timer_lateness_seconds",
    "From the moment a warning or a breach was due, or its ticket told of if later, until the timer acted.",
    buckets=(0.1, 0.25, 0.5, 1, 1.5, 2, 5, 15, 60, 300, 3600),
)
OPEN_CASES = Gauge(
    "touchpoint_escalation_open_cases",
    "Cases not resolved, of the tenants that BUSINESS_TENANTS names; no others are shown.",
    ["tenant", "reason"],
)


def count_decisions(
    session: AsyncSession, settled: Mapping[ClockState, int], opened: Iterable[EscalationOpened]
) -> None:
    """Count what was decided, once it is committed."""
    reasons = Counts(case.reason for case in opened)

    def count() -> None:
        for outcome, number in settled.items():
            CLOCKS_SETTLED.labels(outcome).inc(number)
        for reason, number in reasons.items():
            CASES_OPENED.labels(reason).inc(number)

    once_committed(session, count)


def observe_lateness(session: AsyncSession, seconds: Iterable[float]) -> None:
    """Note how late the timer acted, once it is committed."""

    def observe() -> None:
        for late in seconds:
            TIMER_LATENESS.observe(late)

    once_committed(session, observe)
