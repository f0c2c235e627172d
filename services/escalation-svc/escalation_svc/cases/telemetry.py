"""Metrics of cases. Only the tenants in BUSINESS_TENANTS are ever labels."""

from collections import Counter as Counts
from collections.abc import Iterable

from prometheus_client import Counter, Gauge
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.contracts.escalations import EscalationOpened
from touchpoint.db.engine import once_committed

CASES_OPENED = Counter("touchpoint_escalation_cases_opened_total", "Cases opened, by reason.", ["reason"])
OPEN_CASES = Gauge(
    "touchpoint_escalation_open_cases",
    "Unresolved cases by reason, only of the tenants listed in BUSINESS_TENANTS.",
    ["tenant", "reason"],
)


def count_opened(session: AsyncSession, opened: Iterable[EscalationOpened]) -> None:
    """Count opened cases after the session has committed."""
    reasons = Counts(case.reason for case in opened)

    def count() -> None:
        for reason, number in reasons.items():
            CASES_OPENED.labels(reason).inc(number)

    once_committed(session, count)
