"""`GET /v1/events/{source}/{id}`: what became of an event in each consumer, so that a 202 is no black hole."""

import asyncio
from collections.abc import Sequence
from urllib.parse import unquote

from pydantic import ValidationError
from starlette.responses import JSONResponse
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from gateway.auth import Keyring
from gateway.limits import Limits
from gateway.log_ends import LogEnds
from gateway.requests import header
from gateway.schemas import ConsumerStatus, EventStatus, Status
from gateway.services import Services
from touchpoint.contracts.base import identity
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.http.errors import ProblemError
from touchpoint.http.identity import Caller
from touchpoint.http.scopes import Scope
from touchpoint.http.status import EventStatus as Answer

ASK_SECONDS = 2
_PREFIX = b"/v1/events/"

Place = tuple[str, int, int]
"""Topic, partition and offset."""


class StatusDoor:
    """Asks every service; says 404 only when it is certain that the event was never accepted."""

    def __init__(self, keyring: Keyring, limits: Limits, services: Services, ends: LogEnds) -> None:
        self._keyring = keyring
        self._limits = limits
        self._services = services
        self._ends = ends

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer one request; raises ProblemError."""
        caller = await self._keyring.authorize(header(scope, b"authorization"), Scope.EVENTS_READ)
        self._limits.admit_request(scope, caller)
        source, event_id = name_in(scope["raw_path"])
        path = f"/internal/events/{identity(caller.tenant, source, event_id)}".encode()
        answers = await self._ask(caller, path)
        if not any(answer and answer.status for answer in answers):
            # The log's end first, then the positions again: an event accepted before this request lies before the end.
            ends = await self._ends.read()
            answers = await self._ask(caller, path)
            if never_accepted(answers, ends):
                raise ProblemError(
                    404,
                    "event-unknown",
                    "No event of this source and id was accepted: every consumer has read all there is. A source is "
                    "percent-encoded in the path.",
                )
        found = EventStatus(id=event_id, source=source, consumers=judge(self._services.names, answers))
        await JSONResponse(found.model_dump(mode="json"))(scope, receive, send)

    async def _ask(self, caller: Caller, path: bytes) -> list[Answer | None]:
        """Every service's answer; None for one that gives none."""
        return await asyncio.gather(*(self._ask_one(service, caller, path) for service in self._services.names))

    async def _ask_one(self, service: str, caller: Caller, path: bytes) -> Answer | None:
        try:
            response = await self._services.ask(service, caller, path, timeout_seconds=ASK_SECONDS)
            return Answer.model_validate_json(response.body) if response.status == 200 else None
        except (ProblemError, ValidationError):  # the latter: of another version than this gateway
            return None


def name_in(raw_path: bytes) -> tuple[str, str]:
    """Source and id. The id is the last segment; a source's slashes may be percent-encoded or not."""
    source, _, event_id = raw_path.partition(_PREFIX)[2].rpartition(b"/")
    try:
        found = unquote(source.decode(), errors="strict"), unquote(event_id.decode(), errors="strict")
    except UnicodeDecodeError:
        found = "", ""
    if not all(found):
        raise ProblemError(404, "not-found", "The path is /v1/events/{source}/{id}, both percent-encoded.")
    return found


def never_accepted(answers: Sequence[Answer | None], ends: dict[int, int] | None) -> bool:
    """Whether no consumer knows the event although each has read the log to its end."""
    if ends is None:
        return False
    for answer in answers:
        if answer is None or answer.status is not None:
            return False
        positions = answer.positions.get(TOUCHPOINTS, {})
        if any(positions.get(partition, 0) < end for partition, end in ends.items()):
            return False
    return True


def judge(services: Sequence[str], answers: Sequence[Answer | None]) -> list[ConsumerStatus]:
    """Each consumer's status. Type and place are known once one consumer has it.

    Who does not handle the type ignores it; who has passed the place without it has missed it.
    """
    kind = next((answer.type for answer in answers if answer and answer.type), None)
    place = next((answer.place for answer in answers if answer and answer.place), None)
    return [
        ConsumerStatus(
            consumer=answer.consumer if answer else service,
            status=_status(answer, kind, place),
            conflicting=answer is not None and answer.conflicting,
        )
        for service, answer in zip(services, answers, strict=True)
    ]


def _status(answer: Answer | None, kind: str | None, place: Place | None) -> Status:
    if answer is None:
        return Status.UNKNOWN
    if answer.status is not None:
        return Status(answer.status)
    if kind is not None and kind not in answer.handles:
        return Status.IGNORED
    return Status.MISSING if place is not None and _has_passed(answer, place) else Status.PENDING


def _has_passed(answer: Answer, place: Place) -> bool:
    """Whether the consumer has read a place of which it would still know."""
    topic, partition, offset = place
    passed = answer.positions.get(topic, {}).get(partition, 0)
    return answer.known_from.get(topic, {}).get(partition, 0) <= offset < passed
