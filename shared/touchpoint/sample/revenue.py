"""What becomes of customers: master data, subscriptions, leaving and coming back."""

from typing import Any

from touchpoint.sample import dates, surveys, tickets, trade
from touchpoint.sample.chance import weighted
from touchpoint.sample.dates import DAY, next_contact
from touchpoint.sample.people import OWNERS, Customer
from touchpoint.sample.schedule import Schedule

_CHANGES = weighted(expanded=44, contracted=13, churned=11, owner=22, tier=10)
_NEXT_TIER = {"key": "plus", "plus": "standard", "standard": "plus"}


def _amount(amount: int) -> str:
    return f"{amount}.00"


def introduce(schedule: Schedule, time: int, customer: Customer, stage: str) -> None:
    """The master data of a customer."""
    data = {
        "name": customer.name,
        "account_id": customer.account_id,
        "tier": customer.tier,
        "segment": customer.segment.label,
        "owner": customer.owner,
        "region": customer.country.region,
        "lifecycle_stage": stage,
        "annual_recurring_revenue": _amount(customer.amount),
        "currency": customer.country.currency,
    }
    _update(schedule, time, customer, data)


def _update(schedule: Schedule, time: int, customer: Customer, fields: dict[str, Any]) -> None:
    number = schedule.number("update")
    schedule.emit(time, "crm", f"update-{number}", "customer.updated", {"customer_id": customer.id} | fields)


def subscribe(schedule: Schedule, time: int, customer: Customer, change: str, amounts: tuple[int, int]) -> None:
    """A change of the subscription. `amounts` before and after: whole units of the currency per year."""
    before, amount = amounts
    day = (time + customer.country.zone) // DAY
    data = {"subscription_id": f"SUB-{customer.number + 1}", "customer_id": customer.id, "change": change}
    data |= {"annual_amount": _amount(amount), "previous_annual_amount": _amount(before)}
    data["currency"] = customer.country.currency
    if amount:
        data |= {"period_start": dates.day_text(day), "period_end": dates.day_text(day + 364)}
    number = schedule.number("subscription")
    schedule.emit(time, "crm", f"subscription-{number}", "subscription.changed", data)


def renew(schedule: Schedule, time: int, customer: Customer) -> None:
    """The subscription goes on for another year."""
    subscribe(schedule, time, customer, "renewed", (customer.amount, customer.amount))
    _update(schedule, time + 60, customer, {"lifecycle_stage": "adoption"})
    schedule.later(time + 365 * DAY, renew, customer)


def change(schedule: Schedule, time: int, customer: Customer) -> None:
    """A larger or smaller subscription, another owner, another tier, or the end."""
    chance, kind = schedule.chance, schedule.chance.pick(_CHANGES)
    if kind == "churned":
        _leave(schedule, time, customer)
        return
    if kind == "owner":
        customer.owner = chance.pick(OWNERS[customer.country.region])
        _update(schedule, time, customer, {"owner": customer.owner})
    elif kind == "tier":
        customer.tier = _NEXT_TIER[customer.tier]
        _update(schedule, time, customer, {"tier": customer.tier})
    else:
        percent = chance.between(110, 150) if kind == "expanded" else chance.between(55, 90)
        before, customer.amount = customer.amount, customer.amount * percent // 100
        subscribe(schedule, time, customer, kind, (before, customer.amount))
        _worth(schedule, time + 60, customer, customer.amount)
    plan_change(schedule, time, customer)


def _worth(schedule: Schedule, time: int, customer: Customer, amount: int, stage: str | None = None) -> None:
    fields = {"annual_recurring_revenue": _amount(amount), "currency": customer.country.currency}
    if stage:
        fields["lifecycle_stage"] = stage
    _update(schedule, time, customer, fields)


def plan_change(schedule: Schedule, time: int, customer: Customer) -> None:
    """Plan the next change."""
    schedule.later(next_contact(schedule.chance, time + 10 * DAY, 150, customer.country.zone), change, customer)


def _leave(schedule: Schedule, time: int, customer: Customer) -> None:
    """The subscription ends, and with it all that was planned; some come back after months."""
    chance = schedule.chance
    subscribe(schedule, time, customer, "churned", (customer.amount, 0))
    _worth(schedule, time + 60, customer, 0, "churned")
    customer.stay, customer.active = customer.stay + 1, False
    if chance.happens(30):
        then = next_contact(chance, time + 30 * DAY, 60, customer.country.zone)
        schedule.later(then, _come_back, customer)


def _come_back(schedule: Schedule, time: int, customer: Customer) -> None:
    """A customer who had left starts again."""
    customer.active = True
    subscribe(schedule, time, customer, "started", (0, customer.amount))
    _worth(schedule, time + 60, customer, customer.amount, "onboarding")
    schedule.later(time + 365 * DAY, renew, customer)
    _plan_all(schedule, time, customer)


def join(schedule: Schedule, time: int, customer: Customer) -> None:
    """A new customer: master data, the first subscription, onboarding and the first order."""
    schedule.customers.append(customer)
    introduce(schedule, time, customer, "onboarding")
    subscribe(schedule, time, customer, "started", (0, customer.amount))
    trade.order(schedule, time + 600, customer)
    schedule.later(next_contact(schedule.chance, time, 1, customer.country.zone), trade.welcome, customer)
    schedule.later(time + 365 * DAY, renew, customer)
    _plan_all(schedule, time, customer)


def exist(schedule: Schedule, time: int, customer: Customer) -> None:
    """A customer from before the start: master data, and the subscription as it stands."""
    chance = schedule.chance
    schedule.customers.append(customer)
    introduce(schedule, time, customer, "renewal" if chance.happens(20) else "adoption")
    subscribe(schedule, time, customer, "renewed", (customer.amount, customer.amount))
    customer.delivered_late = chance.happens(trade.LATE_PERCENT)
    schedule.later(next_contact(chance, time + chance.below(60) * DAY, 0, 0), trade.order, customer)
    schedule.later(time + chance.between(1, 364) * DAY, renew, customer)
    _plan_all(schedule, time - chance.below(60) * DAY, customer, now=time)


def _plan_all(schedule: Schedule, since: int, customer: Customer, now: int | None = None) -> None:
    """Plan all that a customer does again and again. `since`: from when their surveys count, by default now."""
    time = since if now is None else now
    chance = schedule.chance
    tickets.plan_ticket(schedule, time, customer)
    surveys.plan_relationship(schedule, max(since, time - 20 * DAY), customer)
    surveys.plan_review(schedule, time, customer)
    trade.plan_meeting(schedule, time, customer)
    trade.plan_usage(schedule, time - chance.below(7) * DAY, customer)
    plan_change(schedule, time, customer)
