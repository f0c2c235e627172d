"""Impatient clients: each sends its next request at once after a 202, and 0.2 s after any other response."""

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
"""The number of clients that send single events, the number that send batches, and the events per batch."""
PAUSE_SECONDS = 0.2


@dataclass
class Second:
    """Counts and maxima of the events sent within one second of the run."""

    accepted: int = 0
    refused: int = 0
    slowest_ms: float = 0
    rss_mib: float = 0
    """Resident memory of the gateway at the end of that second."""


async def send(url: str, key: str, begun: float, stop: str) -> dict[str, Any]:
    """Send from many connections until the file `stop` exists; returns which events were accepted and which refused."""
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
    """All clients: they send until `stopped` is set, and record the responses to their events, second by second."""

    key: str
    begun: float
    stopped: bool = False
    seconds: defaultdict[int, Second] = field(default_factory=lambda: defaultdict(Second))
    accepted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    accepted_at: dict[int, float] = field(default_factory=dict)
    """By second of the run: the time of its first 202, in seconds since `begun`."""

    async def send(self, connection: load.Connection, lane: int, size: int) -> None:
        """Send requests of `size` events over one connection until `stopped` is set."""
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
        """All records, as values that JSON can hold."""
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
    """The ids of the events that the response accepts. Raises RuntimeError at a status other than 202, 207 and 503."""
    if status == 207 or (status == 202 and len(ids) > 1):
        return [item["id"] for item in json.loads(body)["accepted"]]
    if status not in (202, 503):
        raise RuntimeError(f"answered {status}: {body[:500].decode()}")
    return ids if status == 202 else []
