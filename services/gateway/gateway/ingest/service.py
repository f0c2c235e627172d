"""What every door for events does: admit the caller, judge one event, send it to Kafka, count what came of it."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from starlette.types import Receive, Scope

from gateway.door.service import header, read_body
from gateway.ingest import cloudevents, decisions
from gateway.ingest.decisions import MAX_ID
from gateway.ingest.telemetry import ACCEPTED, REFUSED
from gateway.keys.service import Holder, Keyring
from gateway.limits.service import UNIT_BYTES, Limits
from touchpoint.base import tracing
from touchpoint.contracts.base import Meta
from touchpoint.contracts.record import Record
from touchpoint.http.errors import Problem, ProblemError
from touchpoint.http.scopes import Scope as Right
from touchpoint.kafka.producer import Producer, SendError

RETRY_AFTER = {"Retry-After": "2"}


class Intake:
    """Takes single events in. `delivery_seconds`: how long Kafka may take to acknowledge."""

    def __init__(self, keyring: Keyring, limits: Limits, producer: Producer, delivery_seconds: float) -> None:
        self._keyring = keyring
        self.limits = limits
        self._producer = producer
        self._delivery_seconds = delivery_seconds

    async def authorize(self, scope: Scope) -> Holder:
        """Whose request it is. Raises ProblemError when the key may not send events."""
        return await self._keyring.authorize(header(scope, b"authorization"), Right.EVENTS_WRITE)

    async def read(self, scope: Scope, receive: Receive, caller: Holder) -> bytes:
        """One event's body; a large one counts as several events. Raises ProblemError."""
        body = await read_body(scope, receive, decisions.MAX_EVENT_BYTES, decisions.too_large)
        if len(body) > UNIT_BYTES:
            self.limits.charge_size(caller, 1, len(body))
        return body

    async def take(self, parsed: cloudevents.Parsed, caller: Holder, mode: str, traceparent: str | None) -> Meta:
        """Check one event and send it; returns its attributes once Kafka has it. Raises ProblemError."""
        meta, record = decisions.accept(parsed, caller.tenant, datetime.now(UTC), traceparent)
        [error] = await self.send([record])
        if error is not None:
            raise not_sent(error)
        self.count_accepted(caller, mode, 1)
        return meta

    async def send(self, records: list[Record]) -> list[SendError | None]:
        """Send records; for each None once Kafka has it, else why it may not."""
        return await self._producer.send_all(records, self._delivery_seconds)

    def count_accepted(self, caller: Holder, mode: str, count: int) -> None:
        """Count events that Kafka has, by how they came, and for the tenant's day."""
        ACCEPTED.labels(mode).inc(count)
        self.limits.quotas.sent(caller, count)


def count_refused(problem: Problem) -> None:
    """Count an event that was not taken."""
    REFUSED.labels(problem.type.rpartition(":")[2]).inc()


def not_sent(error: SendError) -> ProblemError:
    """The problem of an event Kafka has not acknowledged."""
    detail = f"{error}. Send it again with the same id: it is counted once."
    return ProblemError(503, "not-acknowledged", detail[0].upper() + detail[1:], headers=RETRY_AFTER)


def taken(meta: Meta) -> dict[str, Any]:
    """What the sender of an event is answered."""
    return {"id": meta.id, "source": meta.source, "status_url": status_url(meta)}


def status_url(meta: Meta) -> str:
    """Where to ask what became of an event."""
    return f"/v1/events/{_quoted(meta.source)}/{quote(meta.id, safe='')}"


def trace_of(scope: Scope) -> str | None:
    """The trace that a request is part of: this process's own where it has one, else the client's."""
    return tracing.current() or decisions.usable_traceparent(header(scope, b"traceparent"))


@lru_cache(1000)
def _quoted(source: str) -> str:
    return quote(source, safe="")


__all__ = [
    "MAX_ID",
    "RETRY_AFTER",
    "Intake",
    "count_refused",
    "not_sent",
    "status_url",
    "taken",
    "trace_of",
]
