"""The table of raw requests (requests.yaml), and a client that sends bytes and reads responses."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

LAST = b"GET /docs HTTP/1.1\r\nHost: touchpoint\r\nConnection: close\r\n\r\n"
"""A last request, sent if the connection should still be usable after the row."""
SECONDS = 60


@dataclass(frozen=True)
class Row:
    """A raw request and the expected responses."""

    name: str
    rfc: str
    send: bytes
    answers: list[int]
    ends: bool
    may_end: bool
    interim: bool

    def bytes_with(self, key: str) -> bytes:
        """The bytes to send, with a valid API key."""
        return self.send.replace(b"KEY", key.encode())


def rows() -> list[Row]:
    """All rows of the table."""
    groups = yaml.safe_load(Path(__file__).with_name("requests.yaml").read_text())
    texts = groups.pop("texts")
    texts |= {
        "length": str(len(texts["body"])),
        "2k": "a" * 2 * 1024,
        "8k": "a" * 8 * 1024,
        "17k": "a" * 17 * 1024,
        "65k": "a" * 65 * 1024,
        "100 headers": "a: b\r\n" * 100,
    }
    return [_row(f"{group}: {row['name']}", row, texts) for group, members in groups.items() for row in members]


def _row(name: str, row: dict[str, Any], texts: dict[str, str]) -> Row:
    send, repeat = row["send"], row.get("repeat", 1)
    for text, value in texts.items():
        send = send.replace(f"<{text}>", value)
    return Row(
        name,
        row["rfc"],
        send.encode("latin-1") * repeat,
        row["answers"] * repeat,
        row.get("ends", False),
        row.get("may_end", False),
        row.get("interim", False),
    )


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of a problem, else an empty text."""
        if self.headers.get("content-type") != "application/problem+json":
            return ""
        problem = json.loads(self.body)
        assert problem["status"] == self.status
        return str(problem["type"]).removeprefix("urn:touchpoint:problem:")


class Connection:
    """A connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, host: str, port: int) -> "Connection":
        """Open a connection."""
        return cls(*await asyncio.open_connection(host, port))

    async def send(self, segments: list[bytes]) -> None:
        """Send segments one after the other, until the server closes the connection."""
        with suppress(ConnectionError):
            for segment in segments:
                self.writer.write(segment)
                await self.writer.drain()
                await asyncio.sleep(0)

    async def some(self, seconds: float) -> bytes:
        """The next bytes; empty when the connection is closed. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            return await self._reader.read(65_536)

    async def answer(self, method: bytes = b"GET") -> Answer | None:
        """The next response, read by its Content-Length; None if the connection ended."""
        try:
            async with asyncio.timeout(SECONDS):
                head = await self._reader.readuntil(b"\r\n\r\n")
                line, *lines = head[:-4].decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
                status = int(line.split()[1])
                assert "transfer-encoding" not in headers
                empty = method == b"HEAD" or status < 200 or status == 204
                body = b"" if empty else await self._reader.readexactly(int(headers["content-length"]))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return Answer(status, headers, body)
