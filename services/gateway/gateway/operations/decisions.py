"""What several services' answers come to: the first that knows, or one list of all."""

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
    """A service's answer, or why it gave none."""
    try:
        return await ask(service)
    except ProblemError as error:
        return error


async def first_to_know(services: Sequence[str], ask: Ask) -> Answer:
    """The answer of the service that knows what was asked for, whatever the others say, or however long they take.

    Raises ProblemError 404 only when all of them say so.
    """
    asking = [asyncio.create_task(tried(ask, service)) for service in services]
    unknown: Answer | None = None
    failed: Answer | ProblemError | None = None
    try:
        for next_one in asyncio.as_completed(asking):
            answer = await next_one
            if isinstance(answer, ProblemError) or answer.status >= 500:
                failed = answer
            elif answer.status == 404:
                unknown = answer
            else:
                return answer
    finally:
        for task in asking:
            task.cancel()
    found = failed or unknown
    assert found is not None, "nobody was asked"
    if isinstance(found, ProblemError):
        raise found
    return found


def together(services: Sequence[str], answers: Sequence[Answer | ProblemError], limit: int) -> Answer:
    """One list of all, newest first where it has pages. Who gave no answer is named in it; if all, ProblemError.

    A refusal of the question is the same from all.
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
        except ValidationError:  # of another version than this gateway
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
