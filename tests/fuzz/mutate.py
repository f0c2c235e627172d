"""Mutations of JSON's structure and values, of a body's bytes, and of a request's headers.

All take a `random.Random` and use no other source of randomness, so that a seed reproduces the bodies.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

RawHeaders = list[tuple[bytes, bytes]]


class Object(list[list[Any]]):
    """A JSON object as [name, value] pairs, so that a name can occur twice."""


class Token(bytes):
    """Bytes that are written into the JSON unchanged, valid or not."""


def tree(value: Any) -> Any:
    """A value of json.loads as a tree that the mutations can change."""
    if isinstance(value, dict):
        return Object([name, tree(part)] for name, part in value.items())
    return [tree(part) for part in value] if isinstance(value, list) else value


def encoded(value: Any, rng: Random) -> bytes:
    """Encode a tree as JSON, randomly with or without Unicode escapes."""
    escape = rng.random() < 0.5
    return _encoded(value, lambda text: json.dumps(text, ensure_ascii=escape).encode("utf-8", "surrogatepass"))


def _encoded(value: Any, text: Callable[[Any], bytes]) -> bytes:
    if isinstance(value, Object):
        return b"{%b}" % b",".join(b"%b:%b" % (text(name), _encoded(part, text)) for name, part in value)
    if isinstance(value, list):
        return b"[%b]" % b",".join(_encoded(part, text) for part in value)
    return value if isinstance(value, Token) else text(value)


_LENGTHS = (0, 1, 3, 35, 36, 50, 51, 100, 101, 200, 201, 500, 501, 1000, 1001, 50_000, 50_001)
"""Every length limit of the contracts, and each plus one."""
_CHARACTERS = (
    *"\x00\x01\t\n\r\x1f \"\\/<>&%'\x7f\x80\x85\xa0\xadé\u0301\u200b\u2028\u202e\u3000\ufeff\ufffd\uffff",
    *("\ud800", "\udfff", "\ud83d", "😀", "\U0010ffff", "e\u0301", "\r\n", "%00", "\\u0000", "İ", "ß", "٣"),
)
_TEXTS = (
    "", " ", "null", "true", "NaN", "-1", "a:b", "acme:", "\x1f", "../..", "';--", "{}", "1.0", "0.3",
    "customer.updated", "feedback.recorded", "sla.breached", "nps", "csat", "key", "EUR", "de-DE",
    "urn:touchpoint:feedback.submitted:1",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)  # fmt: skip
_TIMES = (
    "2026-11-20T12:00:00Z", "2026-11-20t12:00:00z", "2026-11-20T12:00:00.123456789+05:45", "2026-11-20T24:00:00Z",
    "2026-11-20T23:59:60Z", "2026-11-20 12:00:00Z", "2026-11-20T12:00:00", "2026-11-20T12:00:00+24:00", "2026-02-30",
    "1900-01-01T00:00:00Z", "1899-12-31T23:59:59Z", "1900-01-01T00:00:00+14:00", "2199-12-31T23:59:59.999999Z",
    "2200-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "0000-01-01", "0001-01-01",
    "9999-12-31", "2026-W01-1", "20261120", "2026-11-20T12:00:00.1234567890Z", "２０２６-11-20T12:00:00Z", "1793000000",
)  # fmt: skip
_NUMBERS = [
    Token(number.encode())
    for number in [
        "0", "-0", "-1", "1", "2", "5", "10", "11", "12", "100", "1000", "1001", "-1000", "4.5", "1.0", "0.005", "1e2",
        "1E+2", "1e-7", "0.000001", "0.0000001", "31622400", "31622400.1", "1e400", "-1e400", "1e-400", "1e308", "NaN",
        "Infinity", "-Infinity", "01", "+1", ".5", "1.", "0x10", "1_000", "1e", "9007199254740993", "2147483648",
        "1e15", "9223372036854775808", "99999999999999.99", "9999999999999999.99", "1e16", "123456789012.123456",
        "9" * 400, "9" * 5000, "0." + "0" * 5000 + "1", "1" + "0" * 20, "0." + "3" * 30,
    ]
]  # fmt: skip


def _nested(rng: Random) -> Token:
    depth = rng.choice((1, 2, 30, 200, 1000, 5000, 30_000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return Token(opening * depth + b"0" + closing * (depth if rng.random() < 0.8 else depth - 1))


def _text(rng: Random, old: Any) -> str:
    text = old if isinstance(old, str) else "x"
    how = rng.randrange(5)
    if how == 0:
        return rng.choice(_TEXTS)
    if how == 1:
        place = rng.randint(0, len(text))
        return text[:place] + rng.choice(_CHARACTERS) + text[place:]
    if how == 2:
        return (text or "x")[:1] * rng.choice(_LENGTHS)
    if how == 3:
        return rng.choice(_CHARACTERS) * rng.choice(_LENGTHS[:-2])
    return rng.choice((text.upper(), text.title(), text + " ", text[:-1], text[::-1]))


def value(rng: Random, old: Any) -> Any:
    """A replacement for a value."""
    how = rng.randrange(12)
    if how < 4:
        return _text(rng, old)
    if how < 7:
        return rng.choice(_NUMBERS)
    if how == 7:
        return rng.choice(_TIMES)
    if how == 8:
        return _nested(rng)
    if how == 9:
        return rng.choice(([old], Object([["a", old]]), [], Object(), [old] * rng.choice((20, 21, 2000))))
    return rng.choice((None, True, False, Token(b""), Token(b"undefined"), Token(b'"\\x"'), Token(b'"\xff"'), old))


def _containers(part: Any) -> Iterator[Any]:
    if isinstance(part, Object):
        yield part
        for _, inner in part:
            yield from _containers(inner)
    elif isinstance(part, list):
        yield part
        for inner in part:
            yield from _containers(inner)


def structure(rng: Random, root: Any) -> None:
    """Mutate a tree once, in place."""
    containers = list(_containers(root))
    place = rng.choice(containers)
    if not place or rng.random() < 0.1:
        _add(rng, place)
    else:
        rng.choice(_CHANGES)(rng, containers, place, rng.randrange(len(place)))


def _drop(_: Random, __: list[Any], place: Any, index: int) -> None:
    del place[index]


def _shuffle(rng: Random, _: list[Any], place: Any, __: int) -> None:
    rng.shuffle(place)


def _repeat(rng: Random, _: list[Any], place: Any, index: int) -> None:
    place.insert(rng.randint(0, len(place)), _again(rng, place, index))


def _move(rng: Random, containers: list[Any], place: Any, index: int) -> None:
    inside = list(_containers(place[index]))
    others = [other for other in containers if type(other) is type(place) and not any(other is part for part in inside)]
    rng.choice(others).append(place.pop(index))


def _rename(rng: Random, _: list[Any], place: Any, index: int) -> None:
    if isinstance(place, Object):
        place[index][0] = _text(rng, place[index][0])


def _replace(rng: Random, _: list[Any], place: Any, index: int) -> None:
    if isinstance(place, Object):
        place[index][1] = value(rng, place[index][1])
    else:
        place[index] = value(rng, place[index])


_CHANGES = (_drop, _shuffle, _repeat, _move, _rename, *(_replace,) * 6)


def _again(rng: Random, place: Any, index: int) -> Any:
    if isinstance(place, Object):
        name, old = place[index]
        return [name, old if rng.random() < 0.3 else value(rng, old)]
    return place[index]


def _add(rng: Random, place: Any) -> None:
    count = rng.choice((1, 1, 1, 1, 19, 21, 101))
    for number in range(count):
        if isinstance(place, Object):
            name = rng.choice(
                (f"extra{number}", "tenant", "recordedtime", "datakeyid", "data", "data_base64", "backfill")
            )
            place.append([name, value(rng, "x") if rng.random() < 0.5 else "x"])
        else:
            place.append(value(rng, "x"))


def octets(rng: Random, body: bytes, other: bytes) -> bytes:
    """Change a body's bytes; `other` is a body from which pieces are copied."""
    where = rng.randint(0, len(body))
    until = min(len(body), where + rng.choice((1, 1, 2, 8, 64)))
    return rng.choice(_CUTS)(rng, body[:where], body[where:until], body[until:], other)


def _flipped(rng: Random, body: bytes) -> bytes:
    flipped = bytearray(body)
    for _ in range(rng.choice((1, 1, 2, 10)) if body else 0):
        flipped[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


_BEFORE = (b"\xef\xbb\xbf", b"\xff\xfe", b" " * 70_000, b"\0", b"//\n", b"[" * 100_000)
_BEHIND = (b"\0", b" \r\n\t", b"{}", b",", b"\xff", b"}", b"]", b"//")
_CUTS: tuple[Callable[[Random, bytes, bytes, bytes, bytes], bytes], ...] = (
    lambda rng, a, b, c, _: _flipped(rng, a + b + c),
    lambda _, a, __, c, ___: a + c,
    lambda rng, a, b, c, _: a + b * rng.choice((2, 3, 50)) + c,
    lambda rng, a, b, c, _: a + rng.randbytes(rng.choice((1, 2, 4))) + b + c,
    lambda rng, a, _, __, other: a + other[rng.randint(0, len(other)) :],
    lambda _, a, __, ___, ____: a,
    lambda rng, a, b, c, _: a + b + c + rng.choice(_BEHIND),
    lambda rng, a, b, c, _: rng.choice(_BEFORE) + a + b + c,
    lambda rng, a, b, c, _: (a + b + c).decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-32")), "replace"),
)


_TYPES = (
    b"", b"application/json", b"application/JSON ; charset=UTF-8", b'application/json;charset="utf-8"', b"text/plain",
    b"application/json; charset=utf-16", b"application/json; charset=", b"application/cloudevents+json;charset=latin-1",
    b"application/cloudevents+json", b"APPLICATION/CLOUDEVENTS+JSON", b"application/cloudevents-batch+json", b"/", b";",
    b"application/x-www-form-urlencoded", b"application/vnd.acme+json", b"application/\xffjson",
    b"application/json" * 9,
    b"application/cloudevents-batch+json; x=application/json", b"multipart/form-data; boundary=x", b"application/+json",
)  # fmt: skip
_VALUES = (
    b"", b" ", b'"', b'""', b'"a\\"b"', b'"\\', b"%", b"%0", b"%00", b"%ZZ", b"%E2%82", b"%ff", b"%E2%82%AC",
    b"\xe2\x82\xac", b"\xff", b"a\tb", b"%0A", b"%0d%0a", b"%22", b"%25%30%30", b"a" * 201, b"%61" * 201, b"true",
    b"TRUE", b"1.0", b"%ED%A0%80",
)  # fmt: skip
_NAMES = (
    b"ce-", b"ce-data", b"ce-data_base64", b"ce-tenant", b"ce-recordedtime", b"ce-datakeyid", b"ce-backfill", b"ce-x-y",
    b"ce-\xff", b"ce-" + b"a" * 51, b"ce-" + b"a" * 50, b"ce_id", b"ce-id", b"ce-type", b"ce-source", b"ce-time",
    b"ce-subject", b"ce-specversion", b"ce-traceparent", b"ce-datacontenttype", b"ce-dataschema", b"traceparent",
    b"content-type", b"ce-extra", b"idempotency-key",
)  # fmt: skip


def headers(rng: Random, raw_headers: RawHeaders) -> None:
    """Change, add or remove one header, in place."""
    how = rng.randrange(6)
    index = rng.randrange(len(raw_headers))
    name, old = raw_headers[index]
    if how == 0:
        raw_headers[:] = [pair for pair in raw_headers if pair[0] != b"content-type"]
        raw_headers.append((b"content-type", rng.choice(_TYPES)))
    elif how == 1:
        raw_headers[index] = (name, rng.choice(_VALUES))
    elif how == 2:
        raw_headers.append((rng.choice(_NAMES), rng.choice(_VALUES)))
    elif how == 3:
        raw_headers.append(raw_headers[index])
    elif how == 4:
        del raw_headers[index]
    else:
        where = rng.randint(0, len(old))
        raw_headers[index] = (name, old[:where] + rng.choice(_VALUES) + old[where:])


def packed(rng: Random, body: bytes, raw_headers: RawHeaders) -> bytes:
    """Add a Content-Encoding header; returns the body, compressed or not."""
    coding = rng.choice(
        (b"gzip",) * 12 + (b"x-gzip", b"GZIP", b"identity", b"gzip, identity", b"gzip, gzip", b"deflate")
    )
    raw_headers.append((b"content-encoding", coding))
    if rng.random() < 0.1:
        return body
    body = gzip.compress(body, rng.choice((0, 1, 6)), mtime=0)
    if rng.random() < 0.2:
        return rng.choice(
            (octets(rng, body, body), body + body, body + b"\0" * 9, body[:-8], body + gzip.compress(b" ", mtime=0))
        )
    return body
