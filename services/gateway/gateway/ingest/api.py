"""`POST /v1/events` and `/v1/batches`: the hot path, in plain ASGI. 202 means that Kafka has acknowledged.

Both take single events and batches, by Content-Type. The second address exists for clients that are generated from the
OpenAPI document, which describes a single kind of body and answer for each address.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.door.service import header, read_body
from gateway.ingest import cloudevents, decisions
from gateway.ingest.cloudevents import Mode
from gateway.ingest.service import RETRY_AFTER, Intake, count_refused, not_sent, taken, trace_of
from gateway.keys.service import Holder
from touchpoint.base import tracing
from touchpoint.base.time_slice import TimeSlice
from touchpoint.contracts.base import Meta
from touchpoint.contracts.record import Record
from touchpoint.http.errors import MEDIA_TYPE, Problem, ProblemError
from touchpoint.kafka.producer import SendError

MAX_BATCH_EVENTS = 5000
MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_FULL_REFUSALS = 100
"""Refused items of a batch whose errors are all named; of further items only the first, to bound the answer."""


class _OnlyId(msgspec.Struct):
    id: str | None = None


def batch_too_large(excess: str = "more bytes") -> ProblemError:
    """The problem of a batch above the limits."""
    return ProblemError(413, "batch-too-large", f"A batch may have 5,000 events and 8 MiB; this one has {excess}.")


class Ingest:
    """The endpoint of both routes."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises ProblemError."""
        caller = await self._intake.authorize(scope)
        try:
            mode = cloudevents.mode(header(scope, b"content-type"), scope["headers"])
            self._intake.limits.admit_events(scope, caller, 0 if mode is Mode.BATCH else 1)
            if mode is Mode.BATCH:
                status, report = await self._take_batch(caller, scope, receive)
            else:
                status, report = 202, await self._take_one(caller, mode, scope, receive)
        except ProblemError as error:
            count_refused(error.problem)
            raise
        await answer(send, status, report)

    async def _take_one(self, caller: Holder, mode: Mode, scope: Scope, receive: Receive) -> dict[str, Any]:
        body = await self._intake.read(scope, receive, caller)
        if mode is Mode.STRUCTURED:
            parsed = cloudevents.structured(body)
        else:
            parsed = cloudevents.binary(header(scope, b"content-type"), scope["headers"], body)
        return taken(await self._intake.take(parsed, caller, mode, trace_of(scope)))

    async def _take_batch(self, caller: Holder, scope: Scope, receive: Receive) -> tuple[int, dict[str, Any]]:
        body = await read_body(scope, receive, MAX_BATCH_BYTES, batch_too_large)
        items = self._items(body, caller)
        self._intake.limits.admit_events(scope, caller, len(items), len(body))
        # With tracing, each event gets its own trace: a batch in a single trace would be unreadable.
        checked = await _check(items, caller.tenant, None if tracing.tracer() else trace_of(scope))
        outcomes = await self._intake.send([each[1] for each in checked if not isinstance(each, Problem)])
        status, report = await _report(items, checked, outcomes)
        self._intake.count_accepted(caller, Mode.BATCH, len(report["accepted"]))
        return status, report

    def _items(self, body: bytes, caller: Holder) -> list[msgspec.Raw]:
        try:
            return _items(body)
        except ProblemError:
            self._intake.limits.charge_size(caller, 0, len(body))
            raise


def _items(body: bytes) -> list[msgspec.Raw]:
    try:
        return cloudevents.batch(body, MAX_BATCH_EVENTS)
    except cloudevents.TooManyItemsError:
        raise batch_too_large("more events") from None


Checked = tuple[Meta, Record] | Problem
"""An item's attributes and record, or its problem (no exception: its traceback would keep the item in memory)."""


async def _check(items: Sequence[msgspec.Raw], tenant: str, traceparent: str | None) -> list[Checked]:
    """Check each item; lets other requests run in between."""
    received = datetime.now(UTC)
    checked, pieces, refused = list[Checked](), TimeSlice(), 0
    for item in items:
        try:
            if (size := memoryview(item).nbytes) > decisions.MAX_EVENT_BYTES:
                raise decisions.too_large(size)
            checked.append(decisions.accept(cloudevents.structured(item), tenant, received, traceparent))
        except ProblemError as error:
            refused += 1
            if refused > MAX_FULL_REFUSALS and error.problem.errors:
                del error.problem.errors[1:]
            checked.append(error.problem)
        if pieces.expired():
            await pieces.pause()
    return checked


async def _report(
    items: Sequence[msgspec.Raw], checked: Sequence[Checked], outcomes: Sequence[SendError | None]
) -> tuple[int, dict[str, Any]]:
    """The batch's status and answer: 202 all accepted, 207 some, 503 none because of Kafka, 422 none otherwise."""
    accepted, refused, sent, pieces = list[dict[str, Any]](), list[dict[str, Any]](), iter(outcomes), TimeSlice()
    for index, item in enumerate(checked):
        if pieces.expired():
            await pieces.pause()
        if isinstance(item, Problem):
            event_id, problem = _id_of(items[index]), item
        elif (failure := next(sent)) is not None:
            event_id, problem = item[0].id, not_sent(failure).problem
        else:
            accepted.append({"index": index, "id": item[0].id, "source": item[0].source})
            continue
        count_refused(problem)
        refused.append({"index": index, "id": event_id, "problem": problem.model_dump(exclude_none=True)})
    report = {"accepted": accepted, "refused": refused}
    if not refused:
        return 202, report
    if accepted:
        return 207, report
    status = 503 if any(each["problem"]["status"] == 503 for each in refused) else 422
    whole = ProblemError(status, "batch-refused", "No event of the batch was accepted; see refused.").problem
    return status, whole.model_dump(exclude_none=True) | report


def _id_of(item: msgspec.Raw) -> str | None:
    """The id of a refused item, if it has a readable id."""
    try:
        event_id = msgspec.json.decode(item, type=_OnlyId).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return event_id and event_id[:200]


async def answer(send: Send, status: int, payload: dict[str, Any]) -> None:
    """Send a JSON answer."""
    media_type = MEDIA_TYPE if status in (422, 503) else "application/json"
    body = msgspec.json.encode(payload)
    headers = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % len(body))]
    if status == 503:
        headers += [(name.lower().encode(), value.encode()) for name, value in RETRY_AFTER.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
