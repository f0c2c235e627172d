"""Sends batches of events to the gateway, in order; retries with backoff while it is busy or unreachable."""

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
"""The import stops after waiting this long in total without an event accepted; the same command resumes it."""

REQUEST_EVENTS = 1000
REQUEST_BYTES = 4 * 2**20
"""Limits of one request, below those of the gateway."""

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_HEADERS = {"content-type": "application/cloudevents-batch+json"}


class StoppedError(Exception):
    """The import was stopped by a signal."""


def connect(url: str, key: str, options: str = "--gateway or --key", seconds: float = 60) -> httpx.Client:
    """An HTTP client of the gateway. `seconds`: how long it waits for an answer.

    Raises UsageError, which names the `options` that gave them, if the URL or the key cannot be sent.
    """
    try:
        return httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=seconds)
    except (httpx.InvalidURL, UnicodeEncodeError) as error:
        raise UsageError(f"{options} is invalid: {error}") from None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that the gateway refused for good: its index among the events sent, and the reason."""

    index: int
    reason: str


@dataclass(slots=True)
class Gateway:
    """Client of a gateway's `POST /v1/events`. `wait(seconds)` waits and returns True if the import should stop."""

    client: httpx.Client
    wait: Callable[[float], bool]

    def send(self, events: Sequence[bytes]) -> list[Refusal]:
        """Send events in order; returns those refused for good once all others are acknowledged.

        Raises UsageError if the gateway refuses the whole request (such as a wrong key), TransientError if it was
        unavailable for GIVE_UP_SECONDS.
        """
        refused = []
        for start, end in _requests(events):
            refused += [Refusal(start + each.index, each.reason) for each in self._send(events[start:end])]
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
                raise UsageError(f"the gateway does not take these events: {_problem(answer)}")
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
    """Backoff: the seconds of Retry-After if given, else twice the last wait; gives up after GIVE_UP_SECONDS."""

    def __init__(self) -> None:
        self._next = _FIRST_WAIT
        self._waited = 0.0

    def next(self, answer: httpx.Response | None) -> float:
        if self._waited >= GIVE_UP_SECONDS:
            reason = "it does not answer" if answer is None else _problem(answer)
            raise TransientError(f"the gateway accepted no event for {self._waited:.0f} seconds: {reason}")
        requested = _retry_after(answer)
        # Jitter keeps several imports from retrying at the same moment.
        seconds = self._next * random.uniform(0.5, 1) if requested is None else requested  # noqa: S311 (no secret)
        self._next = min(self._next * 2, _LONGEST_WAIT)
        self._waited += seconds
        return seconds


def _requests(events: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Split events into requests within the limits: yields start and end index of each."""
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
    """The indexes of events to send again, and the events refused for good."""
    again, final = [], []
    for item in refused:
        index, problem = pending[item["index"]], item["problem"]
        if _is_busy(problem["status"]):
            again.append(index)
        else:
            final.append(Refusal(index, _reason(problem)))
    return sorted(again), final


def _reason(problem: dict[str, Any]) -> str:
    """A problem in one line: its field errors, else its detail or title."""
    errors = [f"{error['field']}: {error['reason']}" for error in problem.get("errors") or ()]
    return "; ".join(errors) or str(problem.get("detail") or problem.get("title") or problem)


def _problem(answer: httpx.Response) -> str:
    try:
        return f"{answer.status_code} {_reason(answer.json())}"
    except (ValueError, AttributeError, TypeError, KeyError):
        return f"{answer.status_code} {answer.reason_phrase}; is this the gateway's address?"


def _retry_after(answer: httpx.Response | None) -> float | None:
    """The Retry-After header in seconds; HTTP allows a number of seconds or a date."""
    value = answer.headers.get("retry-after") if answer is not None else None
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
