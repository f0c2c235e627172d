"""The small world of a local stack: weeks of history, the last day live, and then events as their time comes.

The world begins at a midnight that is stored in the stack's folder at the first start, so that a restart goes on where
the last run ended. Ids depend on the world alone: what is sent again after a kill changes nothing.
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event

from touchpoint.base.errors import TransientError, UsageError
from touchpoint.importer.gateway import Gateway, StoppedError, connect
from touchpoint.local import private
from touchpoint.sample import world
from touchpoint.sample.dates import DAY
from touchpoint.sample.schedule import Frame, Made, encode

CUSTOMERS, GROWTH_DAYS, HISTORY_DAYS, SEED = 450, 49, 28, 7
"""About 4,000 events up to the first start, fewer than a new key may send at once, then about 170 a day. Exports have
been broken for a week at the first start."""

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 10
"""How long the gateway may take for an answer."""


@dataclass(frozen=True)
class Progress:
    """What is stored of a stack's world. `start` and `sent`: seconds since 1970.

    `sent`: all events up to this second have been accepted. `servers`: by which Kafka and PostgreSQL.
    """

    start: int
    sent: int
    servers: str


def _yesterday(now: float) -> int:
    """The midnight UTC at which the day before began."""
    return (int(now) // DAY - 1) * DAY


class Sample:
    """The world of a stack, as far as it was sent."""

    def __init__(self, file: Path, servers: str, now: float) -> None:
        """`file` holds the progress. On other `servers` than before the same world is sent from its start."""
        self._file = file
        self._live_from = _yesterday(now)
        self.progress = self._load(servers, now)
        self._events = world.events(Frame(CUSTOMERS, GROWTH_DAYS, SEED, self.progress.start))
        self._next = next(self._events)
        self._due: list[Made] = []

    def _load(self, servers: str, now: float) -> Progress:
        try:
            stored = Progress(**json.loads(self._file.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            start = _yesterday(now) - HISTORY_DAYS * DAY
            return Progress(start, start - 1, servers)
        return stored if stored.servers == servers else Progress(stored.start, stored.start - 1, servers)

    def due(self, now: float) -> list[bytes]:
        """The events up to now that were not sent. Those before the day before this start are marked as backfill."""
        while self._next.time <= now:
            if self._next.time > self.progress.sent:
                self._due.append(self._next)
            self._next = next(self._events)
        return [encode(event, backfill=event.time < self._live_from) for event in self._due]

    def send(self, gateway: Gateway, now: float) -> None:
        """Send what is due and store the progress.

        Raises what `Gateway.send` raises, and UsageError if the gateway refuses an event, which is then left out.
        """
        events = self.due(now)
        if not events:
            return
        refused = gateway.send(events)
        self._due.clear()
        self.progress = Progress(self.progress.start, int(now), self.progress.servers)
        fresh = self._file.with_suffix(".new")
        private.write(fresh, json.dumps(asdict(self.progress)))
        fresh.replace(self._file)
        if refused:
            raise UsageError(f"the gateway refused {len(refused)} events of the sample, such as: {refused[0].reason}")


async def load(sample: Sample, url: str, key: str) -> None:
    """Send everything up to now. Raises UsageError if the gateway does not take all of it."""
    stop = Event()
    try:
        await asyncio.to_thread(_send, sample, url, key, stop)
    except TransientError as error:
        raise UsageError(f"the sample was not loaded: {error}") from None
    finally:
        stop.set()


async def go_on(sample: Sample, url: str, key: str, say: Callable[[str], None]) -> None:
    """Send events as their time comes, until cancelled. `say` gets a line when this fails for another reason."""
    stop = Event()
    reason = ""
    try:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await asyncio.to_thread(_send, sample, url, key, stop)
                reason = ""
            except (TransientError, UsageError) as error:
                if reason != str(error):
                    reason = str(error)
                    say(f"No sample events are sent: {reason}")
    finally:
        stop.set()  # the thread, which cannot be cancelled, stops waiting for the gateway


def _send(sample: Sample, url: str, key: str, stop: Event) -> None:
    now = time.time()
    if not sample.due(now):
        return
    with connect(url, key, seconds=ANSWER_SECONDS) as client:
        try:
            sample.send(Gateway(client, stop.wait), now)
        except StoppedError:
            return
