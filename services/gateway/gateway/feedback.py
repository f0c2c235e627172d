"""`POST /v1/feedback`: feedback as plain JSON, for who never heard of CloudEvents."""

from uuid import uuid4

import msgspec
from starlette.types import Receive, Scope, Send

from gateway import cloudevents, events
from gateway.auth import Keyring
from gateway.cloudevents import Parsed
from gateway.ingest import Ingest, answer, count_refused, status_url
from gateway.limits import Limits
from gateway.requests import header, read_body
from touchpoint.contracts.touchpoints import FeedbackSubmitted
from touchpoint.http.errors import ProblemError
from touchpoint.http.scopes import Scope as Right

SOURCE = "/touchpoint/gateway/feedback"
ATTRIBUTES = ("id", "time")
"""Members of the body that are the event's; all others are the feedback itself."""


class FeedbackDoor:
    """Takes `feedback.submitted` as plain JSON and answers the id it will have in /v1/feedback."""

    def __init__(self, keyring: Keyring, limits: Limits, ingest: Ingest) -> None:
        self._keyring = keyring
        self._limits = limits
        self._ingest = ingest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises ProblemError."""
        caller = await self._keyring.authorize(header(scope, b"authorization"), Right.EVENTS_WRITE)
        self._limits.admit_events(scope, caller, 1)
        cloudevents.check_json(header(scope, b"content-type"))
        try:
            body = await read_body(scope, receive, events.MAX_EVENT_BYTES, events.too_large)
            traceparent = events.usable_traceparent(header(scope, b"traceparent"))
            meta = await self._ingest.take(_event(body), caller, "feedback", traceparent)
        except ProblemError as error:
            for wrong in error.problem.errors or []:
                wrong.field = wrong.field.removeprefix("data.")
            count_refused(error)
            raise
        await answer(send, 202, {"id": meta.id, "feedback_id": str(meta.identity), "status_url": status_url(meta)})


def _event(body: bytes) -> Parsed:
    """The event; without an id of its own it gets a random one, and then a second try is a second feedback."""
    found = cloudevents.members(body)
    own = cloudevents.attributes({name: found.pop(name) for name in ATTRIBUTES if name in found})
    given = {"specversion": "1.0", "type": FeedbackSubmitted.type, "source": SOURCE, "id": str(uuid4())}
    return Parsed(given | own, msgspec.json.encode(found))
