"""What this service does, behind both doors: it counts events and answers questions about the counts."""

from collections.abc import Sequence
from itertools import product

from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncSession

from metrics_svc import answers, errors, repository, telemetry
from metrics_svc.counting import Counted, Ledger, changed, changes, counts, moments, ticket_keys
from metrics_svc.measures import MOST_ITEMS, Count, Metric
from metrics_svc.periods import OffTheQuarterError, Period, TooManyPeriodsError, periods
from metrics_svc.schemas import MetricAnswer, MetricQuery
from touchpoint.db.partitions import alone
from touchpoint.db.tenants import Tenants

ANSWER: TypeAdapter[MetricAnswer] = TypeAdapter(MetricAnswer)


async def count(session: AsyncSession, events: Sequence[Counted]) -> None:
    """Add a batch of events to the rollups, and move in them what these events say is counted elsewhere."""
    counted = [event for event in events if counts(event)]
    customers = changed(counted)
    await alone(session, "changes", {event.meta.partition for event in counted})
    await repository.insert_changes(session, changes(counted))
    reaching = await repository.reach(session, customers)
    tickets = await repository.lock_tickets(session, ticket_keys(counted), reaching)
    answers = await repository.read_answers(session, reaching)
    ledger = Ledger(tickets, await repository.read_groups(session, moments(counted, tickets, answers)))
    ledger.regroup(customers, answers)
    for event in counted:
        ledger.count(event)
    await repository.write_tickets(session, ledger.tickets)
    await repository.insert_answers(session, ledger.answers)
    await repository.move_answers(session, ledger.moved)
    cells = ledger.cells
    await repository.add(session, cells)
    telemetry.count_measured(session, cells)


async def answer(tenants: Tenants, tenant: str, metric: Metric, query: MetricQuery) -> MetricAnswer:
    """The items of a metric for each period and group asked for. Raises ProblemError when they are too many."""
    spans = _periods(query)
    starts = [span.start for span in spans]
    found = await repository.read_counts(
        tenants, tenant, metric, starts, query.to, group_by=query.group_by, where=query.where, limit=MOST_ITEMS + 1
    )
    kinds = sorted({(count.group, count.scale) for count in found}) or ([] if query.group_by else [((), "")])
    if len(found) > MOST_ITEMS or len(spans) * len(kinds) > MOST_ITEMS:
        raise errors.too_many_items()
    by_place = {(count.period, count.group, count.scale): count for count in found}
    items = [
        answers.item(
            metric,
            span,
            dict(zip(query.group_by, group, strict=True)),
            by_place.get((number, group, scale), Count(number, scale, group, {}, 0)),
        )
        for (number, span), (group, scale) in product(enumerate(spans), kinds)
    ]
    asked = query.model_dump(include={"from_", "to", "interval", "timezone", "group_by"})
    return ANSWER.validate_python({"metric": metric, **asked, "items": items})


def _periods(query: MetricQuery) -> list[Period]:
    try:
        return periods(query.from_, query.to, query.interval, query.timezone, MOST_ITEMS)
    except TooManyPeriodsError:
        raise errors.too_many_items() from None
    except OffTheQuarterError:
        raise errors.zone_off_the_quarter(query.timezone.key) from None
