"""The status of events in each consumer: what happened to them after their 202."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from pydantic import ValidationError

from gateway.queries.service import PassedOn, Services
from gateway.statuses.decisions import all_known, evidence, have_read, judge
from gateway.statuses.log_ends import LogEnds
from gateway.statuses.schemas import ConsumerStatus
from touchpoint.contracts.base import identity
from touchpoint.http.errors import ProblemError
from touchpoint.http.identity import Caller
from touchpoint.http.status import ConsumerAnswer

ASK_SECONDS = 2
WAIT_SECONDS = 2
"""How long to wait for the consumers to reach the log's end when none of them knows an event."""
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.3


class Name(NamedTuple):
    """The name of an event."""

    source: str
    id: str


class Statuses:
    """Asks every service. An event counts as never accepted only when all consumers have read the whole log."""

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
        """Ask again until all consumers have read up to the log's present end: an accepted event is before it.

        While events arrive, consumers always lag a little, so that asking once would prove nothing.
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
        """Every service's answer; None for a service that did not answer."""
        path = ("/internal/events?" + "&".join(f"id={event_id}" for event_id in ids)).encode()
        return await asyncio.gather(*(self._ask_one(service, caller, path) for service in self._services.names))

    async def _ask_one(self, service: str, caller: Caller, path: bytes) -> ConsumerAnswer | None:
        try:
            response = await self._services.ask(service, PassedOn(caller, path), ASK_SECONDS)
            return ConsumerAnswer.model_validate_json(response.body) if response.status == 200 else None
        except (ProblemError, ValidationError):  # the latter: the service has another version than this gateway
            return None
