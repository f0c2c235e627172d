"""Impatient clients: each sends its next event at once, after a 503 in 0.2 s."""

import asyncio
import json
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from bench import door, load

SINGLES, BATCHES, BATCH = 96, 4, 200
"""Clients that send events one by one, those that send batches, and the events in a batch."""
PAUSE_SECONDS = 0.2


@dataclass
class Second:
    """The events sent within one second."""

    accepted: int = 0
    refused: int = 0
    slowest_ms: float = 0
    rss_mib: float = 0
    """Of the gateway, at its end."""


async def send(url: str, key: str, begun: float, stop: str) -> dict[str, Any]:
    """Send from many connections until a file `stop` appears; answers what became of each event."""
    lanes, clients = await load.connect(url, SINGLES + BATCHES), _Clients(key, begun)
    async with asyncio.TaskGroup() as tasks:
        for lane, connection in enumerate(lanes):
            tasks.create_task(clients.send(connection, lane, 1 if lane < SINGLES else BATCH))
        while not Path(stop).exists():  # noqa: ASYNC110, ASYNC240 # another process makes it
            await asyncio.sleep(0.1)
        clients.stopped = True
    return clients.seen()


@dataclass
class _Clients:
    """They send until they are stopped, and note what became of their events, second by second."""

    key: str
    begun: float
    stopped: bool = False
    seconds: defaultdict[int, Second] = field(default_factory=lambda: defaultdict(Second))
    accepted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    accepted_at: dict[int, float] = field(default_factory=dict)
    """By second, when the first answer was 202."""

    async def send(self, connection: load.Connection, lane: int, size: int) -> None:
        """Send `size` events per request."""
        for number in count():
            if self.stopped:
                return
            sent = time.time()
            ids = [f"{lane}-{number}-{item}" for item in range(size)]
            status, body = await connection.ask(_request(self.key, ids))
            accepted = _accepted(ids, status, body)
            self._note(sent, accepted, sorted(set(ids) - set(accepted)))
            if status != 202:
                await asyncio.sleep(PAUSE_SECONDS)

    def _note(self, sent: float, accepted: list[str], refused: list[str]) -> None:
        answered = time.time()
        second = self.seconds[int(sent - self.begun)]
        second.accepted += len(accepted)
        second.refused += len(refused)
        second.slowest_ms = max(second.slowest_ms, 1000 * (answered - sent))
        self.accepted += accepted
        self.refused += refused
        if accepted:
            self.accepted_at.setdefault(int(answered - self.begun), answered - self.begun)

    def seen(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        rows = [asdict(self.seconds[number]) for number in range(max(self.seconds))]
        return {
            "seconds": rows,
            "accepted": self.accepted,
            "refused": self.refused,
            "accepted_at": sorted(self.accepted_at.values()),
        }


def _request(key: str, ids: list[str]) -> bytes:
    if len(ids) == 1:
        return load.request("POST", door.PATH, key, "application/cloudevents+json", event(ids[0]))
    body = b"[%s]" % b",".join(map(event, ids))
    return load.request("POST", door.PATH, key, "application/cloudevents-batch+json", body)


def event(event_id: str) -> bytes:
    """One event."""
    data = {
        "kind": "nps",
        "channel": "email",
        "customer_id": f"C-{hash(event_id) % 5000}",
        "score": {"value": 3, "min": 0, "max": 10},
        "text": "Delivery took three weeks and nobody answered my mails. " * 5,
    }
    envelope = {"specversion": "1.0", "id": event_id, "source": "/kafka-gone", "type": "feedback.submitted"}
    return json.dumps(envelope | {"data": data}).encode()


def _accepted(ids: list[str], status: int, body: bytes) -> list[str]:
    """Which of the events an answer says Kafka has; any answer but 202, 207 and 503 is an error."""
    if status == 207 or (status == 202 and len(ids) > 1):
        return [item["id"] for item in json.loads(body)["accepted"]]
    if status not in (202, 503):
        raise RuntimeError(f"answered {status}: {body[:500].decode()}")
    return ids if status == 202 else []
