"""A day of a customer organisation as CloudEvents, deterministic for a seed: about 540 bytes per event."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

TENANTS = ("acme", "globex", "initech")
WEIGHTS = (6, 3, 1)
CUSTOMERS = 5000
"""Customers per tenant."""

_PARTS = (
    "Delivery took three weeks and nobody answered my mails.",
    "Everything arrived as promised, thank you very much.",
    "I was passed on four times before someone could help me.",
    "The new app is much quicker, I like it a lot.",
    "Der Service war freundlich, aber die Lieferung kam zu spät.",
    "Please call me back, the invoice of October is wrong again.",
    "Très bon accueil, je reviendrai avec plaisir.",
    "The left leg of the desk is bent and the screws are missing.",
    "Would recommend it to every colleague of mine.",
    "It worked for two days, since then the screen stays black.",
)
_SURVEYS = tuple(f"{name}-2026-q4" for name in ("relationship", "delivery", "onboarding", "support", "renewal"))
_CHANNELS = ("email", "web", "app", "phone", "chat")
_SCALES = {"nps": (0, 10), "csat": (1, 5), "ces": (1, 7), "rating": (1, 5)}


class Payload(NamedTuple):
    """An event in structured mode and its tenant, which the API key decides and the body therefore does not contain."""

    id: str
    tenant: str
    type: str
    body: bytes


def day(count: int, begin: datetime, length: timedelta = timedelta(days=1), seed: int = 4) -> Iterator[Payload]:
    """`count` events spread evenly over `length`, each ticket's in their order; 7 of 10 are `feedback.submitted`."""
    chance = random.Random(seed)
    step = length / count
    for number, (tenant, kind, data) in zip(range(count), _happenings(chance), strict=False):
        yield event(chance, tenant, kind, begin + number * step, data)


def event(chance: random.Random, tenant: str, kind: str, at: datetime, data: dict[str, Any]) -> Payload:
    """An event with a random id."""
    event_id = str(UUID(int=chance.getrandbits(128), version=4))
    envelope = {
        "specversion": "1.0",
        "id": event_id,
        "source": f"/{tenant}/helpdesk" if "ticket" in kind else f"/{tenant}/surveys",
        "type": kind,
        "time": at.isoformat(),
        "datacontenttype": "application/json",
        "data": data,
    }
    return Payload(event_id, tenant, kind, msgspec.json.encode(envelope))


def feedback(chance: random.Random, customer: str, survey: str | None = None) -> dict[str, Any]:
    """The data of one `feedback.submitted`."""
    kind = chance.choices((*_SCALES, "text"), (40, 30, 15, 10, 5))[0]
    data: dict[str, Any] = {
        "kind": kind,
        "channel": chance.choice(_CHANNELS),
        "customer_id": customer,
        "text": _text(chance),
        "language": "en",
        "survey_id": survey or chance.choice(_SURVEYS),
        "submission_id": f"S-{chance.getrandbits(32):08x}",
    }
    if kind in _SCALES:
        low, high = _SCALES[kind]
        data["score"] = {"value": chance.randint(low, high), "min": low, "max": high}
    return data


Happening = tuple[str, str, dict[str, Any]]
"""Tenant, type and data."""


def _happenings(chance: random.Random) -> Iterator[Happening]:
    """An endless sequence. A ticket's later events come between other events, as in a real log."""
    later: list[tuple[int, int, Happening]] = []
    order = count()
    for now in count():
        if later and later[0][0] <= now:
            yield heappop(later)[2]
            continue
        tenant = chance.choices(TENANTS, WEIGHTS)[0]
        customer = f"C-{chance.randrange(CUSTOMERS):05d}"
        what = chance.random()
        if what < 0.86:
            yield tenant, "feedback.submitted", feedback(chance, customer)
        elif what < 0.92:
            yield tenant, "customer.updated", _customer(chance, customer)
        else:
            for number, happening in enumerate(_ticket(chance, tenant, customer)):
                heappush(later, (now + 1 + 300 * number, next(order), happening))


def _customer(chance: random.Random, customer: str) -> dict[str, Any]:
    return {
        "customer_id": customer,
        "name": f"Nordwind Logistics {customer}",
        "tier": chance.choice(("key", "standard", "trial")),
        "segment": chance.choice(("enterprise", "mid-market", "small")),
        "owner": "maria.lopez",
        "region": chance.choice(("EMEA", "AMER", "APAC")),
        "annual_recurring_revenue": f"{chance.randrange(1000, 90000)}.00",
        "currency": "EUR",
    }


def _ticket(chance: random.Random, tenant: str, customer: str) -> Iterator[Happening]:
    about = {"ticket_id": f"T-{chance.getrandbits(32):08x}", "customer_id": customer}
    channel, priority = chance.choice(_CHANNELS), chance.choice(("low", "normal", "high", "urgent"))
    opened = {**about, "channel": channel, "priority": priority, "title": "It does not work", "text": _text(chance)}
    yield tenant, "ticket.opened", opened
    reply = {**about, "author": "agent", "author_id": "agent-12", "text": _text(chance)}
    yield tenant, "ticket.replied", reply
    yield tenant, "ticket.status_changed", {**about, "status": "resolved", "by": "agent"}


def _text(chance: random.Random) -> str:
    return " ".join(chance.choices(_PARTS, k=chance.randint(2, 5)))
