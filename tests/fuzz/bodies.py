"""The requests of a run: valid ones of every type and content mode, most of them mutated; deterministic for a seed."""

import base64
import json
from random import Random
from typing import Any, NamedTuple
from urllib.parse import quote

from touchpoint.contracts.base import REGISTRY
from touchpoint.contracts.topics import TOUCHPOINTS

from . import mutate
from .mutate import Object, RawHeaders, Token

TYPES = sorted(name for name, event in REGISTRY.items() if event.topic == TOUCHPOINTS)
_EXAMPLES: dict[str, dict[str, Any]] = {name: REGISTRY[name].model_json_schema()["examples"][0] for name in TYPES}
_VALID = 0.15
"""The share that is not mutated; many mutated events are valid as well."""


class Request(NamedTuple):
    """A POST request. `pieces` are the parts in which the body arrives."""

    seed: int
    number: int
    path: str
    headers: RawHeaders
    pieces: list[bytes]

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.pieces)

    def __str__(self) -> str:
        """Everything that is needed to send the request again."""
        headers = "\n".join(f"  {name!r}: {value!r}" for name, value in self.headers if name != b"authorization")
        sent = base64.b64encode(self.body).decode()
        return f"seed {self.seed}, body {self.number}: POST {self.path}\n{headers}\n  Base64: {sent}"


def request(seed: int, number: int, key: str) -> Request:
    """The request with this number in the run."""
    rng = Random(seed << 32 | number)
    make = rng.choices((_structured, _binary, _batch, _plain), (40, 20, 15, 25))[0]
    path, headers, body = make(rng, number)
    headers.append((b"authorization", f"Bearer {key}".encode()))
    if rng.random() < 0.1:
        mutate.headers(rng, headers)
    if rng.random() < 0.15:
        body = mutate.octets(rng, body, rng.choice(_OTHERS))
    if rng.random() < 0.1:
        body = mutate.packed(rng, body, headers)
    if rng.random() < 0.7:
        headers.append((b"content-length", b"%d" % len(body)))
    return Request(seed, number, path, headers, _pieces(rng, body))


def _pieces(rng: Random, body: bytes) -> list[bytes]:
    if rng.random() < 0.8 or not body:
        return [body]
    cuts = sorted(rng.choices(range(len(body)), k=rng.randint(1, 4)))
    return [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]


def _data(rng: Random, kind: str) -> Object:
    """The data of an event; several events have the same customer, ticket or submission."""
    data = mutate.tree(_EXAMPLES[kind])
    for pair in data:
        if pair[0] in ("customer_id", "ticket_id", "submission_id"):
            pair[1] = f"{pair[1]}-{rng.randrange(50)}"
    return data


def _event(rng: Random, number: str) -> Object:
    kind = rng.choice(TYPES)
    event = Object([["specversion", "1.0"], ["id", number], ["source", "/fuzz"], ["type", kind]])
    if rng.random() < 0.5:
        event.append(["time", f"2026-11-{rng.randint(1, 20):02}T{rng.randint(0, 23):02}:30:00Z"])
    if rng.random() < 0.2:
        event.append(rng.choice((["subject", "s"], ["dataschema", f"urn:touchpoint:{kind}:1"], ["backfill", True])))
    event.append(["data", _data(rng, kind)])
    return event


def _mutated(rng: Random, root: Any) -> None:
    if rng.random() < _VALID:
        return
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        mutate.structure(rng, root)


def _structured(rng: Random, number: int) -> tuple[str, RawHeaders, bytes]:
    event = _event(rng, str(number))
    _mutated(rng, event)
    if rng.random() < 0.1:
        event = _in_base64(rng, event)
    return "/v1/events", [(b"content-type", b"application/cloudevents+json")], mutate.encoded(event, rng)


def _in_base64(rng: Random, event: Object) -> Object:
    return Object(
        ["data_base64", base64.b64encode(mutate.encoded(value, rng)).decode()] if name == "data" else [name, value]
        for name, value in event
    )


def _binary(rng: Random, number: int) -> tuple[str, RawHeaders, bytes]:
    event = _event(rng, str(number))
    _mutated(rng, event)
    data = next((value for name, value in event if name == "data"), Token(b""))
    headers = [(_header_name(name), _header_value(rng, value)) for name, value in event if name != "data"]
    return "/v1/events", [(b"content-type", b"application/json"), *headers], mutate.encoded(data, rng)


def _header_name(name: str) -> bytes:
    return b"ce-" + quote(name[:60].lower(), safe="!#$&'*+.^`|~", errors="replace").encode()


def _header_value(rng: Random, value: Any) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value) if isinstance(value, bool | int | None) else "x"
    raw = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        return raw.translate(None, bytes(range(9)) + bytes(range(10, 32)) + b"\x7f")  # servers refuse these bytes
    return quote(raw, safe="/:+ ").encode()


def _batch(rng: Random, number: int) -> tuple[str, RawHeaders, bytes]:
    size = rng.choice((0, 1, 2, 3, 5, 8)) if rng.random() < 0.999 else rng.choice((500, 5000, 5001))
    events = [_event(rng, f"{number}.{index}") for index in range(size)]
    for event in events[:20]:
        if rng.random() < 0.4:
            _mutated(rng, event)
    if rng.random() < 0.1:
        mutate.structure(rng, events)
    path = "/v1/batches" if rng.random() < 0.9 else "/v1/events"
    return path, [(b"content-type", b"application/cloudevents-batch+json")], mutate.encoded(events, rng)


def _plain(rng: Random, number: int) -> tuple[str, RawHeaders, bytes]:
    feedback = _data(rng, "feedback.submitted")
    headers = [(b"content-type", b"application/json")]
    if rng.random() < 0.03:
        headers.append((b"idempotency-key", b'"%d"' % number))
    elif rng.random() < 0.9:
        feedback.append(["id", str(number)])
    _mutated(rng, feedback)
    return "/v1/feedback", headers, mutate.encoded(feedback, rng)


_OTHERS = [_structured(Random(seed), seed)[2] for seed in range(100)]
"""Bodies from which mutations take pieces."""
