"""What all routes for events share: authorize the caller, check an event, send it to Kafka, count the outcome."""

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
    """Checks single events and sends them. `delivery_seconds`: how long Kafka may take to acknowledge."""

    def __init__(self, keyring: Keyring, limits: Limits, producer: Producer, delivery_seconds: float) -> None:
        self._keyring = keyring
        self.limits = limits
        self._producer = producer
        self._delivery_seconds = delivery_seconds

    async def authorize(self, scope: Scope) -> Holder:
        """The caller. Raises ProblemError when its key may not send events."""
        return await self._keyring.authorize(header(scope, b"authorization"), Right.EVENTS_WRITE)

    async def read(self, scope: Scope, receive: Receive, caller: Holder) -> bytes:
        """The body of a single event; a large body counts as several events. Raises ProblemError."""
        body = await read_body(scope, receive, decisions.MAX_EVENT_BYTES, decisions.too_large)
        if len(body) > UNIT_BYTES:
            self.limits.charge_size(caller, 1, len(body))
        return body

    async def take(self, parsed: cloudevents.Parsed, caller: Holder, mode: str, traceparent: str | None) -> Meta:
        """Check an event and send it; returns its attributes once Kafka has acknowledged it. Raises ProblemError."""
        meta, record = decisions.accept(parsed, caller.tenant, datetime.now(UTC), traceparent)
        [error] = await self.send([record])
        if error is not None:
            raise not_sent(error)
        self.count_accepted(caller, mode, 1)
        return meta

    async def send(self, records: list[Record]) -> list[SendError | None]:
        """Send records. For each: None once Kafka has acknowledged it, else an error; it may still be written."""
        return await self._producer.send_all(records, self._delivery_seconds)

    def count_accepted(self, caller: Holder, mode: str, count: int) -> None:
        """Count events that Kafka has acknowledged: in the metric, by mode, and for the tenant's daily quota."""
        ACCEPTED.labels(mode).inc(count)
        self.limits.quotas.sent(caller, count)


def count_refused(problem: Problem) -> None:
    """Count a refused event by its problem."""
    REFUSED.labels(problem.type.rpartition(":")[2]).inc()


def not_sent(error: SendError) -> ProblemError:
    """The problem of an event that Kafka has not acknowledged."""
    detail = f"{error}. Send it again with the same id: it is counted once."
    return ProblemError(503, "not-acknowledged", detail[0].upper() + detail[1:], headers=RETRY_AFTER)


def taken(meta: Meta) -> dict[str, Any]:
    """The answer to the sender of an event."""
    return {"id": meta.id, "source": meta.source, "status_url": status_url(meta)}


def status_url(meta: Meta) -> str:
    """The path of an event's status."""
    return f"/v1/events/{_quoted(meta.source)}/{quote(meta.id, safe='')}"


def trace_of(scope: Scope) -> str | None:
    """The traceparent of a request: that of this process's span if there is one, else the client's."""
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
