"""The table of raw requests against the running gateway, over real sockets, split into segments in several ways."""

import asyncio
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import pytest

from .table import LAST, Answer, Connection, Row, rows

AT_ONCE = 20
"""Rows sent concurrently."""


def whole(data: bytes) -> list[bytes]:
    return [data]


def head_and_body(data: bytes) -> list[bytes]:
    head, end, body = data.partition(b"\r\n\r\n")
    return [head + end, body]


def in_the_middle(data: bytes) -> list[bytes]:
    return [data[: len(data) // 2], data[len(data) // 2 :]]


def byte_by_byte(data: bytes) -> list[bytes]:
    """Single bytes; of long requests only the beginning and the end, because the middle is padding."""
    ends = 700
    if len(data) <= 2 * ends:
        return [data[at : at + 1] for at in range(len(data))]
    return [*byte_by_byte(data[:ends]), data[ends:-ends], *byte_by_byte(data[-ends:])]


@pytest.fixture(scope="module")
async def key(system) -> str:
    return await system.create_key("acme")


@pytest.fixture(params=["gateway", "feedback-svc", "the gateway's admin address"])
def address(request, system) -> tuple[str, int]:
    urls = {
        "gateway": system.url,
        "feedback-svc": system.service_url("feedback-svc"),
        "the gateway's admin address": system.admin_url,
    }
    parts = urlsplit(urls[request.param])
    return str(parts.hostname), parts.port or 80


def test_the_table_has_enough_rows_and_each_names_its_rfc_section():
    table = rows()
    assert len(table) >= 80
    assert len({row.name for row in table}) == len(table)
    assert all(row.rfc for row in table)


@pytest.mark.parametrize("segments", [whole, head_and_body, in_the_middle, byte_by_byte], ids=lambda f: f.__name__)
async def test_the_gateway_answers_each_row_as_the_rfc_says(system, key, segments):
    parts = urlsplit(system.url)
    wrong = [
        (row.name, row.answers, answers, problem)
        async for row, answers, problem in _all(str(parts.hostname), parts.port or 80, key, segments)
        if problem or answers != row.answers
    ]
    assert wrong == []


async def _all(
    host: str, port: int, key: str, segments: Callable[[bytes], list[bytes]]
) -> AsyncIterator[tuple[Row, list[int], str]]:
    """Each row with the statuses of its responses, and with a problem beyond the statuses, if there is one."""
    places = asyncio.Semaphore(AT_ONCE)

    async def tried(row: Row) -> tuple[Row, list[int], str]:
        async with places:
            connection = await Connection.to(host, port)
            try:
                return row, *await _tried(connection, row, row.bytes_with(key), segments)
            finally:
                connection.writer.transport.abort()

    for answered in asyncio.as_completed([tried(row) for row in rows()]):
        yield await answered


async def _tried(
    connection: Connection, row: Row, data: bytes, segments: Callable[[bytes], list[bytes]]
) -> tuple[list[int], str]:
    sending = asyncio.create_task(connection.send([*segments(data), *([] if row.ends else [LAST])]))
    answers = list[Answer]()
    method = data.strip().partition(b" ")[0]
    while (answer := await connection.answer(b"GET" if answers else method)) is not None:
        if not (row.interim and answer.status == 100):
            answers.append(answer)
    await sending
    problem = next(filter(None, map(_wrong_with, answers)), "")
    ended = row.ends or (row.may_end and len(answers) == len(row.answers))
    if ended:
        if answers and answers[-1].headers.get("connection") != "close":
            problem = "the last answer does not say that the connection ends"
    elif not answers or answers.pop().status != 200:
        problem = "the connection is of no more use"
    return [answer.status for answer in answers], problem


def _wrong_with(answer: Answer) -> str:
    if "date" not in answer.headers:
        return "no Date (RFC 9110, 6.6.1)"
    if answer.status >= 400 and answer.body and not answer.code:
        return "no problem (RFC 9457)"
    return ""


async def test_every_address_ignores_an_upgrade_and_does_not_execute_its_body(address):
    """An upgrade request as the JDK sends it, with a request as its body: the body must not be executed."""
    connection = await Connection.to(*address)
    hidden = b"GET /healthz HTTP/1.1\r\nHost: touchpoint\r\n\r\n"
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    head = b"POST /nothing HTTP/1.1\r\nHost: touchpoint\r\n%sContent-Length: %d\r\n\r\n" % (upgrade, len(hidden))
    await connection.send([head, hidden, b"GET / HTTP/1.1\r\n\r\n"])
    answers = [await connection.answer(), await connection.answer(), await connection.answer()]
    connection.writer.transport.abort()
    assert [answer and (answer.status, answer.code) for answer in answers] == [
        (404, "not-found"),
        (400, "malformed-request"),
        None,
    ]
