"""Combines the answers of several services: the first that knows the thing asked for, or a list of all."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pydantic import ValidationError

from gateway.door.service import Answer
from touchpoint.http import pagination
from touchpoint.http.errors import Problem, ProblemError
from touchpoint.operators.schemas import Entries, Unanswered

Json = dict[str, Any]
Ask = Callable[[str], Awaitable[Answer]]


async def tried(ask: Ask, service: str) -> Answer | ProblemError:
    """A service's answer, or the problem of a service that did not answer."""
    try:
        return await ask(service)
    except ProblemError as error:
        return error


async def first_to_know(services: Sequence[str], ask: Ask) -> Answer:
    """The first answer that is neither 404 nor a failure, without waiting for the other services.

    If there is none: a failure if there was any, else the 404. A failure may be raised as ProblemError.
    """
    asking = [asyncio.create_task(tried(ask, service)) for service in services]
    unknown: Answer | None = None
    failed: Answer | ProblemError | None = None
    try:
        for completed in asyncio.as_completed(asking):
            answer = await completed
            if isinstance(answer, ProblemError) or answer.status >= 500:
                failed = answer
            elif answer.status == 404:
                unknown = answer
            else:
                return answer
    finally:
        for task in asking:
            task.cancel()
    rest = failed or unknown
    assert rest is not None, "no service was asked"
    if isinstance(rest, ProblemError):
        raise rest
    return rest


def together(services: Sequence[str], answers: Sequence[Answer | ProblemError], limit: int) -> Answer:
    """A single list, newest first where it has pages, with the services that did not answer under `unanswered`.

    Raises ProblemError when no service answered. A 4xx is passed on: all services refuse the same requests.
    """
    parts, missing = list[Entries[Json]](), list[Unanswered]()
    for service, answer in zip(services, answers, strict=True):
        if isinstance(answer, Answer) and 400 <= answer.status < 500:
            return answer
        try:
            if isinstance(answer, ProblemError):
                missing.append(Unanswered(service=service, problem=answer.problem))
            elif answer.status >= 500:
                missing.append(Unanswered(service=service, problem=Problem.model_validate_json(answer.body)))
            else:
                parts.append(Entries[Json].model_validate_json(answer.body))
        except ValidationError:  # the service has another version than this gateway
            missing.append(Unanswered(service=service, problem=_unreadable(service).problem))
    if not parts:
        worst = missing[0].problem
        raise ProblemError(worst.status, worst.type.rpartition(":")[2], worst.detail or worst.title)
    merged = _merged(parts, limit)
    merged.unanswered = missing
    return Answer(200, {"content-type": "application/json"}, merged.model_dump_json().encode())


def _merged(parts: Sequence[Entries[Json]], limit: int) -> Entries[Json]:
    items = [item for part in parts for item in part.items]
    if not all("cursor" in item for item in items):
        return Entries(items=items)
    items.sort(key=lambda item: pagination.read(item["cursor"]), reverse=True)
    more = len(items) > limit or any(part.next_cursor for part in parts)
    shown = items[:limit]
    return Entries(items=shown, next_cursor=shown[-1]["cursor"] if more and shown else None)


def _unreadable(service: str) -> ProblemError:
    return ProblemError(502, "service-misconfigured", f"{service} answers what this gateway cannot read.")
