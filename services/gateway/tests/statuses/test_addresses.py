"""HTTP clients reach the status URL of every accepted event, whatever its source and id.

Clients normalise a path before they send it (RFC 3986, 5.2.4 and 6.2.2), each in its own way.
"""

import asyncio
import json
import shutil
import urllib.request
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime

import httpx
import pytest
import uvicorn
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.responses import JSONResponse

from gateway.ingest.cloudevents import Parsed
from gateway.ingest.decisions import accept
from gateway.ingest.service import status_url
from gateway.statuses.api import name_in
from touchpoint.http.errors import ProblemError
from touchpoint.testing import eventually

DATA = b'{"kind": "text", "channel": "web", "text": "x"}'
NASTY = [
    ".",
    "..",
    "/",
    "//",
    "%2e",
    "%2F",
    "a/./b",
    "a/../b",
    "/..",
    "../",
    "a//b",
    "...",
    "a?b#c",
    "~",
    "%",
    " ",
    "+",
    "\\",
]
SOURCES = st.one_of(st.sampled_from(NASTY), st.text("abz019-._~:/?#[]@!$&'()*+,;=%2eEfF", min_size=1, max_size=20))
IDS = st.one_of(st.sampled_from(NASTY), st.text(min_size=1, max_size=20))


def accepted(source, event_id):
    """The event's attributes; None if the gateway refuses them."""
    attributes = {"specversion": "1.0", "type": "feedback.submitted", "source": source, "id": event_id}
    try:
        return accept(Parsed(attributes, DATA), "acme", datetime.now(UTC))[0]
    except ProblemError:
        return None


NAMES = st.lists(st.tuples(SOURCES, IDS), min_size=1, max_size=60)


@asynccontextmanager
async def naming():
    """A server that answers with the source and id that it reads from the path."""

    async def answer(scope, receive, send):
        await JSONResponse(name_in(scope["raw_path"]))(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(answer, port=0, log_config=None, lifespan="off"))
    server.capture_signals = nullcontext
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving


async def by_httpx(urls):
    async with httpx.AsyncClient() as client:
        return [(await client.get(url)).json() for url in urls]


async def by_urllib(urls):
    def fetch(url):
        with urllib.request.urlopen(url) as answer:
            return json.load(answer)

    return [await asyncio.to_thread(fetch, url) for url in urls]


async def by_curl(urls):
    return await _by_program("curl", "-s", "-w", "\n", *urls)


async def by_node(urls):
    script = "for (const url of process.argv.slice(1)) console.log(JSON.stringify(await (await fetch(url)).json()))"
    return await _by_program("node", "--input-type=module", "-e", script, "--", *urls)


async def _by_program(program, *arguments):
    running = await asyncio.create_subprocess_exec(program, *arguments, stdout=asyncio.subprocess.PIPE)
    written, _ = await running.communicate()
    return [json.loads(line) for line in written.splitlines()]


def program(client, name):
    """A client that runs a program; its test is skipped where the program is not installed."""
    return pytest.param(client, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed"))


@pytest.mark.parametrize("client", [by_httpx, by_urllib, program(by_curl, "curl"), program(by_node, "node")])
def test_every_http_client_reaches_the_status_url_of_every_event(client):
    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(NAMES)
    @example([(source, event_id) for source in NASTY for event_id in NASTY])
    def check(names):
        events = [event for name in names if (event := accepted(*name))]

        async def asked():
            async with naming() as base:
                return await client([base + status_url(event) for event in events])

        assert asyncio.run(asked()) == [[event.source, event.id] for event in events]

    check()


@pytest.mark.parametrize("name", [".", ".."])
def test_a_source_or_id_that_clients_drop_from_a_url_is_refused(name):
    assert accepted(name, "1") is None
    assert accepted("/crm", name) is None
    assert accepted(f"/{name}", f"x{name}") is not None
