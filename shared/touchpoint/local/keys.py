"""The API key of a local stack: created once, stored with the stack's secrets, and replaced when it is invalid."""

import asyncio
import json
import sys

import httpx

from touchpoint.base.errors import UsageError
from touchpoint.http.scopes import OPERATORS, Scope
from touchpoint.local.home import Home
from touchpoint.local.services import GATEWAY, Environment

TENANT = "acme"


async def working_key(home: Home, environment: Environment) -> str:
    """A valid key with all scopes but those of operators. Raises UsageError when none can be created."""
    key = home.secrets().get("api_key", "")
    if not await _works(GATEWAY.url(environment.port), key):
        key = await _create(environment)
        home.keep_secret(api_key=key)
    return key


async def _works(gateway: str, key: str) -> bool:
    if not key:
        return False
    async with httpx.AsyncClient(base_url=gateway, timeout=10) as client:
        answer = await client.get("/v1/feedback?limit=1", headers={"Authorization": f"Bearer {key}"})
    return answer.is_success


async def _create(environment: Environment) -> str:
    """Create a key as an operator does, by the gateway's command `touchpoint keys create`."""
    scopes = [word for scope in Scope if scope not in OPERATORS for word in ("--scope", scope)]
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-P",
            "-m",
            "touchpoint.cli",
            "keys",
            "create",
            "local",
            "--tenant",
            TENANT,
            *scopes,
            "--json",
        ),
        env=environment.of(GATEWAY),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise UsageError(f"No API key could be made: {errors.decode().strip().splitlines()[-1]}")
    return str(json.loads(output)["token"])
