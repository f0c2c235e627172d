"""The queue of a world: what happens next, in order of time.

An action is a function of the schedule, a time and a customer: it puts events and further actions into the queue, at
its own time or later. So a world is made as it is read, and only what lies ahead is in memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, NamedTuple

import msgspec

from touchpoint.sample import dates
from touchpoint.sample.chance import Chance
from touchpoint.sample.people import Accounts, Customer

_ENCODE = msgspec.json.Encoder().encode


class Made(NamedTuple):
    """An event that was made: its time in seconds since 1970, its attributes and its data."""

    time: int
    id: str
    source: str
    type: str
    data: dict[str, Any]


def encode(event: Made, *, backfill: bool) -> bytes:
    """A CloudEvent in JSON, as the gateway takes it."""
    envelope = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": dates.text(event.time),
    }
    if backfill:
        envelope["backfill"] = True  # type: ignore[assignment] # the only attribute that is no text
    envelope["data"] = event.data  # type: ignore[assignment] # the data
    return _ENCODE(envelope)


@dataclass(frozen=True)
class Frame:
    """What identifies a world. `start`: seconds since 1970, a midnight UTC. The growth takes `days`."""

    customers: int
    days: int
    seed: int
    start: int

    @property
    def release(self) -> int:
        """When the release that breaks exports is out: the start of week 30, in a shorter world in proportion."""
        weeks = max(1, self.days // 7)
        week = 30 if weeks >= 52 else max(1, 30 * weeks // 52)
        return self.start + (week - 1) * 7 * dates.DAY


Action = Callable[["Schedule", int, Customer], None]


class Schedule:
    """The queue, and what all actions share."""

    def __init__(self, frame: Frame, sources: str) -> None:
        """`sources`: how the source of each event begins."""
        self.frame = frame
        self.release = frame.release
        self.chance = Chance(sources)
        self.accounts = Accounts()
        self.customers: list[Customer] = []
        """All who have come so far."""
        self.numbers: dict[str, int] = {}
        self._sources = {
            name: f"{sources}/{name}" for name in ("crm", "helpdesk", "surveys", "shop", "product", "team")
        }
        self._queue: list[tuple[int, int, Action | None, Any, int]] = []
        self._pushed = 0

    def number(self, kind: str, first: int = 1) -> int:
        """The next number of a kind of thing."""
        number = self.numbers.get(kind, first)
        self.numbers[kind] = number + 1
        return number

    def emit(self, time: int, source: str, event_id: str, kind: str, data: dict[str, Any]) -> None:
        """Put an event into the queue."""
        self._pushed += 1
        heappush(self._queue, (time, self._pushed, None, Made(time, event_id, self._sources[source], kind, data), 0))

    def later(self, time: int, action: Action, customer: Customer) -> None:
        """Put an action into the queue; it is left out if the customer has left until then."""
        self._pushed += 1
        heappush(self._queue, (time, self._pushed, action, customer, customer.stay))

    def run(self) -> Iterator[Made]:
        """All events in order of time, without an end."""
        queue = self._queue
        while queue:
            time, _, action, subject, stay = heappop(queue)
            if action is None:
                yield subject
            elif subject.stay == stay:
                action(self, time, subject)
