"""What became of events in each consumer, so that a 202 is no black hole.

`GET /v1/events/{source}/{id}` asks for one, `POST /v1/events/statuses` for up to 100.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote
from uuid import UUID

from pydantic import ValidationError
from starlette.responses import JSONResponse
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from gateway.auth import Keyring
from gateway.limits import Limits
from gateway.log_ends import LogEnds
from gateway.queries import MAX_BODY_BYTES, too_large
from gateway.requests import header, read_body
from gateway.schemas import ConsumerStatus, EventNames, EventStatus, EventStatuses, Status
from gateway.services import Services
from touchpoint.contracts.base import identity
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.http.errors import ProblemError, field_errors
from touchpoint.http.identity import Caller
from touchpoint.http.scopes import Scope
from touchpoint.http.status import ConsumerAnswer, EventFound

ASK_SECONDS = 2
WAIT_SECONDS = 2
"""Consumers may take this long to read the part of the log that could hold an event none of them knows."""
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.3
_PREFIX = b"/v1/events/"

Place = tuple[str, int, int]
"""Topic, partition and offset."""


class Name(NamedTuple):
    """What an event is called."""

    source: str
    id: str


class Statuses:
    """Asks every service; knows that an event was never accepted only when that is certain."""

    def __init__(self, services: Services, ends: LogEnds) -> None:
        self._services = services
        self._ends = ends

    async def find(self, caller: Caller, names: Sequence[Name]) -> list[list[ConsumerStatus] | None]:
        """Each event's status in each consumer; None for an event that was never accepted."""
        ids = [identity(caller.tenant, *name) for name in names]
        answers = await self._ask(caller, ids)
        read_to_end = False
        if not all_known(answers, ids) and None not in answers:
            answers, read_to_end = await self._wait(caller, ids)
        return [
            None if read_to_end and not evidence(answers, event_id) else judge(self._services.names, answers, event_id)
            for event_id in ids
        ]

    async def _wait(self, caller: Caller, ids: Sequence[UUID]) -> tuple[list[ConsumerAnswer | None], bool]:
        """Ask again until all consumers have read what the log holds now: an event accepted before lies there.

        Under traffic they are always a little behind the log's end, so looking once would prove nothing.
        """
        ends = await self._ends.read()
        until, pause = asyncio.get_running_loop().time() + WAIT_SECONDS, FIRST_PAUSE
        while True:
            answers = await self._ask(caller, ids)
            read_to_end = ends is not None and have_read(answers, ends)
            late = asyncio.get_running_loop().time() + pause > until
            if read_to_end or ends is None or late or None in answers or all_known(answers, ids):
                return answers, read_to_end
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _ask(self, caller: Caller, ids: Sequence[UUID]) -> list[ConsumerAnswer | None]:
        """Every service's answer; None for one that gives none."""
        path = ("/internal/events?" + "&".join(f"id={event_id}" for event_id in ids)).encode()
        return await asyncio.gather(*(self._ask_one(service, caller, path) for service in self._services.names))

    async def _ask_one(self, service: str, caller: Caller, path: bytes) -> ConsumerAnswer | None:
        try:
            response = await self._services.ask(service, caller, path, timeout_seconds=ASK_SECONDS)
            return ConsumerAnswer.model_validate_json(response.body) if response.status == 200 else None
        except (ProblemError, ValidationError):  # the latter: of another version than this gateway
            return None


class StatusDoor:
    """Answers for one event."""

    def __init__(self, keyring: Keyring, limits: Limits, statuses: Statuses) -> None:
        self._keyring = keyring
        self._limits = limits
        self._statuses = statuses

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer one request; raises ProblemError."""
        caller = await self._keyring.authorize(header(scope, b"authorization"), Scope.EVENTS_READ)
        self._limits.admit_request(scope, caller)
        name = name_in(scope["raw_path"])
        [consumers] = await self._statuses.find(caller, [name])
        if consumers is None:
            raise ProblemError(
                404,
                "event-unknown",
                "No event of this source and id was accepted: every consumer has read all there is. A source is "
                "percent-encoded in the path.",
            )
        found = EventStatus(id=name.id, source=name.source, consumers=consumers)
        await JSONResponse(found.model_dump(mode="json"))(scope, receive, send)


class StatusesDoor:
    """Answers for a list of events."""

    def __init__(self, keyring: Keyring, limits: Limits, statuses: Statuses) -> None:
        self._keyring = keyring
        self._limits = limits
        self._statuses = statuses

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer one request; raises ProblemError."""
        caller = await self._keyring.authorize(header(scope, b"authorization"), Scope.EVENTS_READ)
        self._limits.admit_request(scope, caller)
        asked = _names_in(await read_body(scope, receive, MAX_BODY_BYTES, too_large))
        statuses = await self._statuses.find(caller, asked)
        items = [
            EventStatus(id=name.id, source=name.source, consumers=consumers or [])
            for name, consumers in zip(asked, statuses, strict=True)
        ]
        await JSONResponse(EventStatuses(items=items).model_dump(mode="json"))(scope, receive, send)


def name_in(raw_path: bytes) -> Name:
    """Source and id. The id is the last segment; a source's slashes may be percent-encoded or not."""
    source, _, event_id = raw_path.partition(_PREFIX)[2].rpartition(b"/")
    try:
        found = Name(unquote(source.decode(), errors="strict"), unquote(event_id.decode(), errors="strict"))
    except UnicodeDecodeError:
        found = Name("", "")
    if not all(found):
        raise ProblemError(404, "not-found", "The path is /v1/events/{source}/{id}, both percent-encoded.")
    return found


def _names_in(body: bytes) -> list[Name]:
    try:
        asked = EventNames.model_validate_json(body)
    except ValidationError as error:
        found = field_errors(error.errors(include_url=False, include_input=False))
        if error.errors()[0]["type"] == "json_invalid":
            raise ProblemError(400, "malformed-json", f"The body {found[0].reason}.") from None
        raise ProblemError(422, "validation-failed", "The request is not valid; see errors.", errors=found) from None
    return [Name(event.source, event.id) for event in asked.events]


def evidence(answers: Sequence[ConsumerAnswer | None], event_id: UUID) -> list[EventFound]:
    """What the consumers know of an event."""
    return [answer.events[event_id] for answer in answers if answer and event_id in answer.events]


def all_known(answers: Sequence[ConsumerAnswer | None], ids: Sequence[UUID]) -> bool:
    """Whether at least one consumer has seen each event."""
    return all(evidence(answers, event_id) for event_id in ids)


def have_read(answers: Sequence[ConsumerAnswer | None], ends: dict[int, int]) -> bool:
    """Whether every consumer has read the log up to these ends."""
    return all(
        answer is not None
        and all(answer.positions.get(TOUCHPOINTS, {}).get(partition, 0) >= end for partition, end in ends.items())
        for answer in answers
    )


def judge(services: Sequence[str], answers: Sequence[ConsumerAnswer | None], event_id: UUID) -> list[ConsumerStatus]:
    """An event's status in each consumer. That it was accepted, its type and place are known once one consumer has it.

    Who does not handle the type ignores it; who has passed the place without it has missed it.
    """
    known = evidence(answers, event_id)
    kind = next((found.type for found in known if found.type), None)
    place = next((found.place for found in known if found.place), None)
    statuses = list[ConsumerStatus]()
    for service, answer in zip(services, answers, strict=True):
        own = answer.events.get(event_id) if answer else None
        status = Status.UNKNOWN
        if own is not None:
            status = Status(own.status)
        elif answer is not None and known:
            status = _not_seen(answer, kind, place)
        statuses.append(
            ConsumerStatus(
                consumer=answer.consumer if answer else service,
                status=status,
                conflicting=own is not None and own.conflicting,
            )
        )
    return statuses


def _not_seen(answer: ConsumerAnswer, kind: str | None, place: Place | None) -> Status:
    """The status of an accepted event in a consumer that does not have it."""
    if kind is not None and kind not in answer.handles:
        return Status.IGNORED
    return Status.MISSING if place is not None and _has_passed(answer, place) else Status.PENDING


def _has_passed(answer: ConsumerAnswer, place: Place) -> bool:
    """Whether the consumer has read a place of which it would still know."""
    topic, partition, offset = place
    passed = answer.positions.get(topic, {}).get(partition, 0)
    return answer.known_from.get(topic, {}).get(partition, 0) <= offset < passed
