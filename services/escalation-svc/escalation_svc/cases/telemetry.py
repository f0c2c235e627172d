"""Names of the metrics of cases. No tenant is a label, but those that were asked for."""

from collections import Counter as Counts
from collections.abc import Iterable

from prometheus_client import Counter, Gauge
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.contracts.escalations import EscalationOpened
from touchpoint.db.engine import once_committed

CASES_OPENED = Counter(
    "touchpoint_escalation_cases_opened_total", "Cases opened, by why a person is needed.", ["reason"]
)
OPEN_CASES = Gauge(
    "touchpoint_escalation_open_cases",
    "Cases not resolved, of the tenants that BUSINESS_TENANTS names; no others are shown.",
    ["tenant", "reason"],
)


def count_opened(session: AsyncSession, opened: Iterable[EscalationOpened]) -> None:
    """Count the cases that were opened, once they are committed."""
    reasons = Counts(case.reason for case in opened)

    def count() -> None:
        for reason, number in reasons.items():
            CASES_OPENED.labels(reason).inc(number)

    once_committed(session, count)
