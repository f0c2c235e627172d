"""The JDK's HTTP client with its defaults: each of its requests asks for an upgrade to HTTP/2."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from touchpoint.testing import eventually
from touchpoint.testing.policies import QUICK
from touchpoint.testing.system import System

PROGRAM = Path(__file__).with_name("Post.java")
FEEDBACK = {
    "kind": "nps",
    "channel": "email",
    "customer_id": "C-1",
    "score": {"value": 0, "min": 0, "max": 10},
    "text": "Nobody answers.",
}


def _has_compiler() -> bool:
    """Whether there is a JDK that runs a source file; a JRE does not."""
    if shutil.which("java") is None:
        return False
    modules = subprocess.run(["java", "--list-modules"], capture_output=True, text=True, check=False)
    return "jdk.compiler" in modules.stdout


pytestmark = pytest.mark.skipif(not _has_compiler(), reason="needs a JDK, 11 or newer: java is not here, or is a JRE")


async def post(url: str, key: str, body: dict[str, Any], *more: str) -> tuple[int, dict[str, Any]]:
    """Send a POST by the JDK's client; status and body of the response."""
    process = await asyncio.create_subprocess_exec(
        "java", str(PROGRAM), url, key, json.dumps(body), *more, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    status, _, answer = printed.decode().partition(" ")
    return int(status), json.loads(answer)


@pytest.fixture(scope="module")
async def system(running) -> AsyncIterator[System]:
    async with running(QUICK) as started:
        yield started


@pytest.fixture(scope="module")
async def key(system) -> str:
    return await system.create_key("acme")


@pytest.mark.parametrize("more", [(), ("chunked",)], ids=["with a length", "in chunks"])
async def test_feedback_is_accepted_and_an_acknowledgement_records_the_person(system, key, more):
    customer = f"C-{more}"
    answer = await post(f"{system.url}/v1/feedback", key, FEEDBACK | {"customer_id": customer}, *more)
    assert answer[0] == 202, answer

    async with httpx.AsyncClient(base_url=system.url, headers={"Authorization": f"Bearer {key}"}) as client:

        async def case() -> dict[str, Any] | None:
            listed = (await client.get("/v1/escalations", params={"customer_id": customer})).json()
            return listed["items"][0] if listed["items"] else None

        opened = await eventually(case)
        by = await post(f"{system.url}/v1/escalations/{opened['id']}/acknowledge", key, {"by": "Kim"}, *more)
        assert by[0] == 200
        assert by[1]["acknowledged_by"].startswith("Kim ("), "and then the key it came with"
