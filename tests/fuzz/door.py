"""Sends requests to a gateway in this process, and checks that the responses are documented."""

import asyncio
import base64
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import jsonschema_rs
from starlette.types import ASGIApp, Message

from .bodies import Request
from .published import DOCUMENT, validator

_ANSWERS = {
    path: DOCUMENT["paths"][path]["post"]["responses"] for path in ("/v1/events", "/v1/batches", "/v1/feedback")
}
_FINE = {202, 207}
TRIES = 90
RETRY_SECONDS = 2
"""The gateway's Retry-After. On a busy machine Kafka may not answer for a while, and an Idempotency-Key whose request
has an unknown outcome can be used again only after its lease, here 130 s."""

Sent = tuple[str, str, str]
"""An event, to compare requests and log: source, id, and the `repr` of its data."""


class Answer(NamedTuple):
    """A response."""

    status: int
    media_type: str
    body: bytes


def _resolved(answer: Any) -> Any:
    return DOCUMENT["components"]["responses"][answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer


def _schemas() -> dict[tuple[str, int, str], jsonschema_rs.Draft4Validator]:
    """Validators of all documented responses, by path, status and media type."""
    return {
        (path, int(status), media_type): validator(content["schema"])
        for path, answers in _ANSWERS.items()
        for status, answer in answers.items()
        for media_type, content in _resolved(answer)["content"].items()
    }


class Door:
    """Sends requests, and records wrong responses (`wrong`) and the events that Kafka must have (`expected`)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._schemas = _schemas()
        self.statuses: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.expected: Counter[Sent] = Counter()
        self.repeated: set[tuple[str, str]] = set()
        """Source and data of events sent again after a 503 or 409: the first attempt may have reached Kafka as well."""

    async def send(self, request: Request) -> None:
        """Send a request, again after each 503 or 409, and check the responses."""
        for tried in range(TRIES):
            answer = await _answered(self._app, request)
            self.statuses[_name(answer)] += 1
            accepted = self._check(request, answer)
            self.expected.update(accepted)
            if tried:
                self.repeated.update((source, data) for source, _, data in accepted)
            if not _to_repeat(answer):
                return
            await asyncio.sleep(RETRY_SECONDS)
        self.wrong.append(f"{answer.status} {TRIES} times\n{request}")

    def _check(self, request: Request, answer: Answer) -> list[Sent]:
        """Check a response; returns the accepted events."""
        try:
            self._judge(request, answer)
            return list(_accepted(request, answer)) if answer.status in _FINE else []
        except (AssertionError, ValueError, LookupError, jsonschema_rs.ValidationError) as error:
            self.wrong.append(
                f"{answer.status} {answer.body[:300]!r}: {type(error).__name__}: {error!s:.300}\n{request}"
            )
            return []

    def _judge(self, request: Request, answer: Answer) -> None:
        assert answer.status < 500 or answer.status == 503, "an error of the server"
        schema = self._schemas.get((_described_at(request), answer.status, answer.media_type))
        assert schema is not None, f"{answer.status} {answer.media_type} is not documented"
        payload = json.loads(answer.body)
        schema.validate(payload)
        assert answer.status in _FINE or payload["status"] == answer.status


def _described_at(request: Request) -> str:
    """The path under which the document describes the response: both paths for events accept events and batches."""
    if request.path == "/v1/feedback":
        return request.path
    media_type = (_header(request, b"content-type") or b"").lower()
    return "/v1/batches" if media_type.startswith(b"application/cloudevents-batch+json") else "/v1/events"


def _to_repeat(answer: Answer) -> bool:
    """Whether the request must be repeated, because some of its events may not be in Kafka."""
    return answer.status in (409, 503) or (
        answer.status == 207 and any(item["problem"]["status"] == 503 for item in json.loads(answer.body)["refused"])
    )


def _name(answer: Answer) -> str:
    """The status and, for a problem, its type."""
    if answer.status in _FINE:
        return str(answer.status)
    return f"{answer.status} {json.loads(answer.body)['type'].rpartition(':')[2]}"


async def _answered(app: ASGIApp, request: Request) -> Answer:
    pieces = iter(request.pieces)
    left = len(request.pieces)
    messages: list[Message] = []

    async def receive() -> Message:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": next(pieces), "more_body": left > 0}

    async def send(message: Message) -> None:
        messages.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": request.path, "raw_path": request.path.encode(), "query_string": b"", "root_path": "",
        "headers": request.headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "state": {},
    }  # fmt: skip
    await app(scope, receive, send)
    start, *rest = messages
    media_type = dict(start["headers"])[b"content-type"].decode()
    return Answer(start["status"], media_type, b"".join(message.get("body", b"") for message in rest))


def _accepted(request: Request, answer: Answer) -> Iterator[Sent]:
    """The events that the response accepts; their data comes from the request, by another parser than the gateway's."""
    taken, body = json.loads(answer.body), _unpacked(request)
    if request.path == "/v1/feedback":
        data = {name: value for name, value in read(body).items() if name not in ("id", "time")}
        yield "/touchpoint/gateway/feedback", taken["id"], repr(data)
    elif "accepted" in taken:
        items = read(body)
        for item in taken["accepted"]:
            yield item["source"], item["id"], _data(items[item["index"]])
    else:
        structured = b"cloudevents" in (_header(request, b"content-type") or b"").lower()
        yield taken["source"], taken["id"], _data(read(body)) if structured else repr(read(body))


def _data(event: dict[str, Any]) -> str:
    encoded = event.get("data_base64")
    return repr(event["data"] if encoded is None else read(base64.b64decode(encoded)))


def read(raw: bytes) -> Any:
    """Parse JSON with exact numbers; invalid UTF-8 becomes surrogates, which equal no valid text."""
    return json.loads(raw.decode("utf-8", "surrogateescape"), parse_int=Decimal, parse_float=Decimal)


def _unpacked(request: Request) -> bytes:
    encoding = (_header(request, b"content-encoding") or b"").lower()
    return gzip.decompress(request.body) if b"gzip" in encoding else request.body


def _header(request: Request, name: bytes) -> bytes | None:
    return next((value for header, value in request.headers if header == name), None)
