"""`POST /v1/feedback`: feedback as plain JSON, for clients without CloudEvents."""

from functools import partial
from uuid import NAMESPACE_URL, uuid4, uuid5

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.door.service import Answer, header
from gateway.idempotency import service as idempotency
from gateway.idempotency.service import Idempotency, Key
from gateway.ingest import cloudevents
from gateway.ingest.cloudevents import Parsed
from gateway.ingest.service import Intake, count_refused, status_url, trace_of
from gateway.keys.service import Holder
from touchpoint.contracts.touchpoints import FeedbackSubmitted
from touchpoint.http.errors import ProblemError

KEYS = uuid5(NAMESPACE_URL, "urn:touchpoint:idempotency-key")
SOURCE = "/touchpoint/gateway/feedback"
ATTRIBUTES = ("id", "time")
"""Members of the body that become attributes of the event; all others are the feedback."""


class FeedbackEndpoint:
    """The endpoint: makes a `feedback.submitted` event, and answers the id it will have in /v1/feedback."""

    def __init__(self, intake: Intake, remembered: Idempotency) -> None:
        self._intake = intake
        self._remembered = remembered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises ProblemError."""
        caller = await self._intake.authorize(scope)
        self._intake.limits.admit_events(scope, caller, 1)
        cloudevents.check_json(header(scope, b"content-type"))
        try:
            body = await self._intake.read(scope, receive, caller)
            key = idempotency.key_of(scope, caller.tenant, body)
            traceparent = trace_of(scope)
            # needed=False: the event's id is derived from the key, and the consumers' inbox drops duplicates.
            answer = await self._remembered.once(key, partial(self._take, body, key, caller, traceparent), needed=False)
        except ProblemError as error:
            for wrong in error.problem.errors or []:
                wrong.field = wrong.field.removeprefix("data.")
            count_refused(error.problem)
            raise
        await Response(answer.body, answer.status, answer.headers)(scope, receive, send)

    async def _take(self, body: bytes, key: Key | None, caller: Holder, traceparent: str | None) -> Answer:
        meta = await self._intake.take(_event(body, key), caller, "feedback", traceparent)
        taken = {"id": meta.id, "feedback_id": str(meta.identity), "status_url": status_url(meta)}
        return Answer(202, {"content-type": "application/json"}, msgspec.json.encode(taken))


def _event(body: bytes, key: Key | None) -> Parsed:
    """The event. With neither an id nor a key it gets a random id: sent again, it counts as further feedback."""
    members = cloudevents.members(body)
    own = cloudevents.attributes({name: members.pop(name) for name in ATTRIBUTES if name in members})
    event_id = uuid5(KEYS, f"{key.tenant}:{key.value}") if key else uuid4()
    given = {"specversion": "1.0", "type": FeedbackSubmitted.type, "source": SOURCE, "id": str(event_id)}
    return Parsed(given | own, msgspec.json.encode(members))
