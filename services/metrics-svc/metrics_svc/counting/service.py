"""The interface of counting for other rooms: count events, read counts."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from metrics_svc.counting import repository, telemetry
from metrics_svc.counting.decisions import Counted, Ledger, changed, changes, counts, moments, ticket_keys
from metrics_svc.counting.models import ANSWERS, CHANGES, Group
from metrics_svc.counting.repository import Count, read_counts
from metrics_svc.counting.sketch import RELATIVE_ACCURACY, Sketch
from touchpoint.db.locks import lock_partitions

__all__ = ["RELATIVE_ACCURACY", "Count", "Sketch", "count", "read_counts"]


async def count(session: AsyncSession, events: Sequence[Counted]) -> None:
    """Add a batch of events to the rollups, and regroup earlier counts that its customer changes affect."""
    counted = [event for event in events if counts(event)]
    customers = changed(counted)
    await lock_partitions(session, "changes", {event.meta.partition for event in counted})
    await CHANGES.insert(session, changes(counted))
    reaching = await repository.reach(session, customers)
    tickets = await repository.lock_tickets(session, ticket_keys(counted), reaching)
    answers = await repository.read_answers(session, reaching)
    ledger = Ledger(tickets, await repository.read_groups(session, moments(counted, tickets, answers)))
    ledger.regroup(customers, answers)
    for event in counted:
        ledger.count(event)
    await repository.write_tickets(session, ledger.tickets)
    await ANSWERS.insert(session, ledger.answers)
    await ANSWERS.update(session, ledger.moved, only=Group._fields)
    cells = ledger.cells
    await repository.add(session, cells)
    telemetry.count_measured(session, cells)
