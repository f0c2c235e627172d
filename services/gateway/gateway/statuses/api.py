"""`GET /v1/events/{source}/{id}`: the status of an event; `POST /v1/events/statuses`: of up to 100 events."""

from urllib.parse import unquote

from pydantic import ValidationError
from starlette.responses import JSONResponse
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from gateway.door.service import header, read_body
from gateway.keys.service import Holder, Keyring
from gateway.limits.service import Limits
from gateway.statuses.schemas import EventNames, EventStatus, EventStatuses
from gateway.statuses.service import Name, Statuses
from touchpoint.http.errors import ProblemError, field_errors
from touchpoint.http.scopes import Scope

_PREFIX = b"/v1/events/"


class _Endpoint:
    """What both endpoints do with a request first."""

    def __init__(self, keyring: Keyring, limits: Limits, statuses: Statuses) -> None:
        self._keyring = keyring
        self._limits = limits
        self._statuses = statuses

    async def _admit(self, scope: Connection) -> Holder:
        """The caller, if its key may read events and is within its limits. Raises ProblemError."""
        caller = await self._keyring.authorize(header(scope, b"authorization"), Scope.EVENTS_READ)
        self._limits.admit_request(scope, caller)
        return caller


class StatusEndpoint(_Endpoint):
    """The endpoint for a single event."""

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer one request; raises ProblemError."""
        caller = await self._admit(scope)
        name = name_in(scope["raw_path"])
        [consumers] = await self._statuses.find(caller, [name])
        if consumers is None:
            raise ProblemError(
                404,
                "event-unknown",
                "No event of this source and id was accepted: every consumer has read all there is. A source is "
                "percent-encoded in the path.",
            )
        status = EventStatus(id=name.id, source=name.source, consumers=consumers)
        await JSONResponse(status.model_dump(mode="json"))(scope, receive, send)


class StatusesEndpoint(_Endpoint):
    """The endpoint for a list of events."""

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer one request; raises ProblemError."""
        caller = await self._admit(scope)
        asked = _names_in(await read_body(scope, receive))
        statuses = await self._statuses.find(caller, asked)
        items = [
            EventStatus(id=name.id, source=name.source, consumers=consumers or [])
            for name, consumers in zip(asked, statuses, strict=True)
        ]
        await JSONResponse(EventStatuses(items=items).model_dump(mode="json"))(scope, receive, send)


def name_in(raw_path: bytes) -> Name:
    """The source and id in a path. The id is the last segment; a source may contain slashes, encoded or not."""
    source, _, event_id = raw_path.partition(_PREFIX)[2].rpartition(b"/")
    try:
        name = Name(unquote(source.decode(), errors="strict"), unquote(event_id.decode(), errors="strict"))
    except UnicodeDecodeError:
        name = Name("", "")
    if not all(name):
        raise ProblemError(404, "not-found", "The path is /v1/events/{source}/{id}, both percent-encoded.")
    return name


def _names_in(body: bytes) -> list[Name]:
    try:
        asked = EventNames.model_validate_json(body)
    except ValidationError as error:
        errors = field_errors(error.errors(include_url=False, include_input=False))
        if error.errors()[0]["type"] == "json_invalid":
            raise ProblemError(400, "malformed-json", f"The body {errors[0].reason}.") from None
        raise ProblemError(422, "validation-failed", "The request is not valid; see errors.", errors=errors) from None
    return [Name(event.source, event.id) for event in asked.events]
