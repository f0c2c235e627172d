"""`POST /v1/events` and `/v1/batches`: the hot path, a small ASGI application. 202: Kafka has acknowledged.

What a body is, its Content-Type says; the second address is there for clients that are generated from the OpenAPI
document, which knows one kind of body and of answer for an address.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.types import Receive, Scope, Send

from gateway import cloudevents, events
from gateway.auth import Keyring
from gateway.cloudevents import Mode
from gateway.keys import Holder
from gateway.limits import UNIT_BYTES, Limits
from gateway.requests import header, read_body
from gateway.telemetry import ACCEPTED, REFUSED
from touchpoint.base import tracing
from touchpoint.base.turns import Turns
from touchpoint.contracts.base import Meta
from touchpoint.contracts.record import Record
from touchpoint.http.errors import MEDIA_TYPE, Problem, ProblemError
from touchpoint.http.scopes import Scope as Right
from touchpoint.kafka.producer import Producer, SendError

MAX_BATCH_EVENTS = 5000
MAX_BATCH_BYTES = 8 * 1024 * 1024
RETRY_AFTER = {"Retry-After": "2"}
FULLY_TOLD = 100
"""Of so many refused items of a batch all errors are named, of the others the first: else an answer could be large."""


class _OnlyId(msgspec.Struct):
    id: str | None = None


def batch_too_large(found: str = "more bytes") -> ProblemError:
    """The problem of a batch above the limits."""
    return ProblemError(413, "batch-too-large", f"A batch may have 5,000 events and 8 MiB; this one has {found}.")


def not_sent(error: SendError) -> ProblemError:
    """The problem of an event Kafka has not acknowledged."""
    detail = f"{error}. Send it again with the same id: it is counted once."
    return ProblemError(503, "not-acknowledged", detail[0].upper() + detail[1:], headers=RETRY_AFTER)


def status_url(meta: Meta) -> str:
    """Where to ask what became of an event."""
    return f"/v1/events/{_quoted(meta.source)}/{quote(meta.id, safe='')}"


def trace_of(scope: Scope) -> str | None:
    """The trace that a request is part of: where it stands here, else as its client has told."""
    return tracing.current() or events.usable_traceparent(header(scope, b"traceparent"))


@lru_cache(1000)
def _quoted(source: str) -> str:
    return quote(source, safe="")


class Ingest:
    """Takes events in. `delivery_seconds`: wait so long for Kafka."""

    def __init__(self, keyring: Keyring, limits: Limits, producer: Producer, delivery_seconds: float) -> None:
        self._keyring = keyring
        self._limits = limits
        self._producer = producer
        self._delivery_seconds = delivery_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises ProblemError."""
        caller = await self._keyring.authorize(header(scope, b"authorization"), Right.EVENTS_WRITE)
        try:
            await self._take_in(caller, scope, receive, send)
        except ProblemError as error:
            count_refused(error.problem)
            raise

    async def _take_in(self, caller: Holder, scope: Scope, receive: Receive, send: Send) -> None:
        content_type = header(scope, b"content-type")
        mode = cloudevents.mode(content_type, scope["headers"])
        traceparent = trace_of(scope)
        self._limits.admit_events(scope, caller, 0 if mode is Mode.BATCH else 1)
        if mode is Mode.BATCH:
            body = await read_body(scope, receive, MAX_BATCH_BYTES, batch_too_large)
            items = self._items(body, caller)
            self._limits.admit_events(scope, caller, len(items), len(body))
            # While there are traces each event begins its own: of a batch in one trace nothing could be seen.
            status, report = await self._take_batch(items, caller, None if tracing.tracer() else traceparent)
            await answer(send, status, report)
            return
        body = await read_body(scope, receive, events.MAX_EVENT_BYTES, events.too_large)
        if len(body) > UNIT_BYTES:
            self._limits.charge_size(caller, 1, len(body))
        if mode is Mode.STRUCTURED:
            parsed = cloudevents.structured(body)
        else:
            parsed = cloudevents.binary(content_type, scope["headers"], body)
        meta = await self.take(parsed, caller, mode, traceparent)
        await answer(send, 202, {"id": meta.id, "source": meta.source, "status_url": status_url(meta)})

    async def take(self, parsed: cloudevents.Parsed, caller: Holder, mode: str, traceparent: str | None) -> Meta:
        """Check one event and send it; returns its attributes once Kafka has it. Raises ProblemError."""
        meta, record = events.accept(parsed, caller.tenant, datetime.now(UTC), traceparent)
        [error] = await self._producer.send_all((record,), self._delivery_seconds)
        if error is not None:
            raise not_sent(error)
        self._accepted(caller, mode, 1)
        return meta

    async def _take_batch(
        self, items: Sequence[msgspec.Raw], caller: Holder, traceparent: str | None
    ) -> tuple[int, dict[str, Any]]:
        checked = await _check(items, caller.tenant, traceparent)
        records = [found[1] for found in checked if not isinstance(found, Problem)]
        outcomes = await self._producer.send_all(records, self._delivery_seconds)
        status, report = await _report(items, checked, outcomes)
        self._accepted(caller, Mode.BATCH, len(report["accepted"]))
        return status, report

    def _items(self, body: bytes, caller: Holder) -> list[msgspec.Raw]:
        try:
            return _items(body)
        except ProblemError:
            self._limits.charge_size(caller, 0, len(body))
            raise

    def _accepted(self, caller: Holder, mode: str, count: int) -> None:
        ACCEPTED.labels(mode).inc(count)
        self._limits.quotas.sent(caller, count)


def _items(body: bytes) -> list[msgspec.Raw]:
    try:
        return cloudevents.batch(body, MAX_BATCH_EVENTS)
    except cloudevents.TooManyItemsError:
        raise batch_too_large("more events") from None


Checked = tuple[Meta, Record] | Problem
"""An item's attributes and record, or what is wrong with it (no exception: its traceback would keep the item)."""


async def _check(items: Sequence[msgspec.Raw], tenant: str, traceparent: str | None) -> list[Checked]:
    """What each item is."""
    received = datetime.now(UTC)
    checked, turns, refused = list[Checked](), Turns(), 0
    for item in items:
        try:
            if (size := memoryview(item).nbytes) > events.MAX_EVENT_BYTES:
                raise events.too_large(size)
            checked.append(events.accept(cloudevents.structured(item), tenant, received, traceparent))
        except ProblemError as error:
            refused += 1
            if refused > FULLY_TOLD and error.problem.errors:
                del error.problem.errors[1:]
            checked.append(error.problem)
        if turns.over():
            await turns.give()
    return checked


async def _report(
    items: Sequence[msgspec.Raw], checked: Sequence[Checked], outcomes: Sequence[SendError | None]
) -> tuple[int, dict[str, Any]]:
    """The batch's status and answer: 202 all accepted, 207 some, 503 none and Kafka is to blame, else 422."""
    accepted, refused, sent, turns = list[dict[str, Any]](), list[dict[str, Any]](), iter(outcomes), Turns()
    for index, found in enumerate(checked):
        if turns.over():
            await turns.give()
        if isinstance(found, Problem):
            event_id, problem = _id_of(items[index]), found
        elif (failure := next(sent)) is not None:
            event_id, problem = found[0].id, not_sent(failure).problem
        else:
            accepted.append({"index": index, "id": found[0].id, "source": found[0].source})
            continue
        count_refused(problem)
        refused.append({"index": index, "id": event_id, "problem": problem.model_dump(exclude_none=True)})
    report = {"accepted": accepted, "refused": refused}
    if not refused:
        return 202, report
    if accepted:
        return 207, report
    status = 503 if any(item["problem"]["status"] == 503 for item in refused) else 422
    whole = ProblemError(status, "batch-refused", "No event of the batch was accepted; see refused.").problem
    return status, whole.model_dump(exclude_none=True) | report


def _id_of(item: msgspec.Raw) -> str | None:
    """The id of an item that was refused, if it says one."""
    try:
        found = msgspec.json.decode(item, type=_OnlyId).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found and found[:200]


def count_refused(problem: Problem) -> None:
    """Count an event that was not taken."""
    REFUSED.labels(problem.type.rpartition(":")[2]).inc()


async def answer(send: Send, status: int, payload: dict[str, Any]) -> None:
    """Send a JSON answer."""
    media_type = MEDIA_TYPE if status in (422, 503) else "application/json"
    body = msgspec.json.encode(payload)
    headers = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % len(body))]
    if status == 503:
        headers += [(name.lower().encode(), value.encode()) for name, value in RETRY_AFTER.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
