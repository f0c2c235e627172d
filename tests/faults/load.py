"""Load on the gateway: one day's events, deterministic for a seed, from a client that retries forever."""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import httpx

SOURCE = "/tests/load"
CUSTOMERS = 300
BATCH = 100
START = datetime.now(UTC).replace(microsecond=0)
"""All events are dated within minutes of now, so that no ticket's clock expires while the load runs."""


def day(seed: int, lane: int, lanes: int) -> Iterator[dict[str, Any]]:
    """An endless sequence of structured CloudEvents of this lane's share of the customers, in order."""
    chance = random.Random(f"{seed}/{lane}")
    number = 0
    for customer in range(lane, CUSTOMERS, lanes):
        yield _event(f"{lane}-hello-{customer}", START, "customer.updated", _customer(customer, chance))
    while True:
        customer = f"c{chance.randrange(lane, CUSTOMERS, lanes)}"
        begin = START + timedelta(seconds=number % 240)
        for later, (kind, data) in enumerate(_moments(chance, customer, f"{lane}-{number}")):
            number += 1
            yield _event(f"{lane}-{number}", begin + timedelta(seconds=later), kind, data)


def _customer(number: int, chance: random.Random) -> dict[str, Any]:
    tier, segment = chance.choice(["key", "standard"]), chance.choice(["retail", "industry", "public"])
    return {"customer_id": f"c{number}", "name": f"Customer {number}", "tier": tier, "segment": segment}


def _moments(chance: random.Random, customer: str, ticket: str) -> list[tuple[str, dict[str, Any]]]:
    """The next events' types and data: feedback, or a ticket with its replies, or a change of the customer."""
    common = {"customer_id": customer}
    channel = chance.choice(["email", "web", "chat"])
    what = chance.randrange(10)
    if what < 6:
        kind, low, high = chance.choice([("nps", 0, 10), ("csat", 1, 5), ("ces", 1, 7)])
        score = {"value": chance.randint(low, high), "min": low, "max": high}
        return [
            ("feedback.submitted", {**common, "kind": kind, "channel": channel, "score": score, "text": "So it is."})
        ]
    if what == 6:
        return [("customer.updated", {**common, "tier": chance.choice(["key", "standard"])})]
    about = {**common, "ticket_id": f"t{ticket}"}
    opened = {**about, "channel": channel, "priority": chance.choice(["low", "normal", "high", "urgent"])}
    return [
        ("ticket.opened", opened),
        ("ticket.replied", {**about, "author": "bot", "text": "We have received it."}),
        ("ticket.replied", {**about, "author": "agent", "text": "It is mended."}),
        ("ticket.status_changed", {**about, "status": "resolved"}),
    ]


def _event(event_id: str, at: datetime, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": SOURCE,
        "type": kind,
        "time": at.isoformat(),
        "data": data,
    }


@dataclass
class Load:
    """Sends events in several lanes, each in order; a batch is sent again until all of it is accepted.

    It sends at least `count` events and continues until `enough` is set. `rate`: events per second of all lanes
    together, at most as many as the gateway accepts.
    """

    url: str
    key: str
    count: int
    rate: float
    seed: int = 1
    lanes: int = 4
    accepted: set[str] = field(default_factory=set)
    retries: int = 0
    in_flight: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Return once every event that was sent is accepted."""
        async with httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}) as client:
            await asyncio.gather(*(self._lane(client, lane) for lane in range(self.lanes)))

    async def _lane(self, client: httpx.AsyncClient, lane: int) -> None:
        events = day(self.seed, lane, self.lanes)
        started, sent = time.monotonic(), 0
        while sent * self.lanes < self.count or not self.enough.is_set():
            batch = list(islice(events, BATCH))
            await asyncio.sleep(started + sent * self.lanes / self.rate - time.monotonic())
            sent += len(batch)
            while not await self._accepted(client, batch):
                self.retries += 1
                await asyncio.sleep(0.1)  # a pause before each retry

    async def _accepted(self, client: httpx.AsyncClient, batch: list[dict[str, Any]]) -> bool:
        self.in_flight += 1
        try:
            answer = await client.post(
                "/v1/events", json=batch, headers={"Content-Type": "application/cloudevents-batch+json"}, timeout=30
            )
        except httpx.TransportError:
            return False
        finally:
            self.in_flight -= 1
        assert answer.status_code in (202, 207, 429, 503), answer.text
        body = answer.json()
        self.accepted.update(item["id"] for item in body.get("accepted", ()))
        assert all(item["problem"]["status"] == 503 for item in body.get("refused", ())), answer.text
        return answer.status_code == 202
