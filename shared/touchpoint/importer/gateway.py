"""Sends batches of events to the gateway, patiently: what is only busy is asked again, in the same order."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx

from touchpoint.base.errors import TransientError, UsageError

GIVE_UP_SECONDS = 300.0
"""After this long without an answer the import stops; the same command goes on where it stopped."""

REQUEST_EVENTS = 1000
REQUEST_BYTES = 4 * 2**20
"""Well inside what the gateway takes at once."""

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_HEADERS = {"content-type": "application/cloudevents-batch+json"}


class StoppedError(Exception):
    """The import was told to stop while it waited."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event the gateway does not take: its place among those sent, and why."""

    index: int
    reason: str


@dataclass(slots=True)
class Gateway:
    """`POST /v1/events` of one gateway. `wait(seconds)` waits and answers whether to stop instead of going on."""

    client: httpx.Client
    wait: Callable[[float], bool]

    def send(self, events: Sequence[bytes]) -> list[Refusal]:
        """Hand over events in order; returns what is refused for good once all the rest is acknowledged.

        Raises UsageError when the gateway will not listen at all, TransientError when it was away for too long.
        """
        refused = []
        for start, end in _requests(events):
            refused += [Refusal(start + one.index, one.reason) for one in self._send(events[start:end])]
        return refused

    def _send(self, events: Sequence[bytes]) -> list[Refusal]:
        pending, refused = list(range(len(events))), list[Refusal]()
        waits = _Waits()
        while pending:
            answer = self._post([events[index] for index in pending])
            if answer is None or _is_busy(answer.status_code):
                again = pending
            elif answer.status_code in (HTTPStatus.ACCEPTED, HTTPStatus.MULTI_STATUS, HTTPStatus.UNPROCESSABLE_ENTITY):
                again, final = _sorted_out(answer.json()["refused"], pending)
                refused += final
            else:
                raise UsageError(f"the gateway does not take this import: {_problem(answer)}")
            if len(again) < len(pending):
                waits = _Waits()
            pending = again
            if pending and self.wait(waits.next(answer)):
                raise StoppedError
        return refused

    def _post(self, events: Sequence[bytes]) -> httpx.Response | None:
        try:
            return self.client.post("/v1/events", content=b"[" + b",".join(events) + b"]", headers=_HEADERS)
        except httpx.TransportError:
            return None


class _Waits:
    """How long to wait: as the gateway asks, else twice as long each time; gives up after GIVE_UP_SECONDS."""

    def __init__(self) -> None:
        self._next = _FIRST_WAIT
        self._waited = 0.0

    def next(self, answer: httpx.Response | None) -> float:
        if self._waited >= GIVE_UP_SECONDS:
            reason = "it does not answer" if answer is None else _problem(answer)
            raise TransientError(f"the gateway took nothing for {self._waited:.0f} seconds: {reason}")
        asked = _retry_after(answer)
        # Jitter keeps several imports from knocking at the same moment.
        seconds = self._next * random.uniform(0.5, 1) if asked is None else asked  # noqa: S311 (no secret)
        self._next = min(self._next * 2, _LONGEST_WAIT)
        self._waited += seconds
        return seconds


def _requests(events: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Where each request's events begin and end, so that none is larger than the gateway takes."""
    start = size = 0
    for end, event in enumerate(events):
        if end > start and (end - start == REQUEST_EVENTS or size + len(event) > REQUEST_BYTES):
            yield start, end
            start, size = end, 0
        size += len(event)
    if start < len(events):
        yield start, len(events)


def _is_busy(status: int) -> bool:
    return status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _sorted_out(refused: list[dict[str, Any]], pending: list[int]) -> tuple[list[int], list[Refusal]]:
    """Which events to send again, and which are refused for good."""
    again, final = [], []
    for item in refused:
        index, problem = pending[item["index"]], item["problem"]
        if _is_busy(problem["status"]):
            again.append(index)
        else:
            final.append(Refusal(index, _reason(problem)))
    return sorted(again), final


def _reason(problem: dict[str, Any]) -> str:
    """A problem in one line: its fields, or what it says as a whole."""
    errors = [f"{error['field']}: {error['reason']}" for error in problem.get("errors") or ()]
    return "; ".join(errors) or str(problem.get("detail") or problem.get("title") or problem)


def _problem(answer: httpx.Response) -> str:
    try:
        return f"{answer.status_code} {_reason(answer.json())}"
    except (ValueError, AttributeError, TypeError, KeyError):
        return f"{answer.status_code} {answer.reason_phrase}; is this the gateway's address?"


def _retry_after(answer: httpx.Response | None) -> float | None:
    """The Retry-After header in seconds: it comes as seconds or as a date."""
    value = answer.headers.get("retry-after") if answer is not None else None
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
