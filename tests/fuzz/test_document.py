"""The running gateway against the documents it serves: Schemathesis with all its checks.

`FUZZ_EXAMPLES` sets the requests per operation and phase, `FUZZ_SEED` the seed; `make fuzz` sets both. Only with
`FUZZ_EXAMPLES` are the operators' routes tested, each of which queries all services, and every boundary of every field
of an event in a batch. Those boundaries are always tested at the route for single events.
"""

import asyncio
import os
import sys
from pathlib import Path

import httpx
import pytest

from touchpoint.testing import eventually

ROOT = Path(__file__).parents[2]
CONFIG = Path(__file__).with_name("schemathesis.toml").read_text()
WITHOUT_BATCHES = """
[[operations]]
include-path = "/v1/batches"
phases.coverage.enabled = false
"""
LONG = "FUZZ_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "5"))
SEED = os.environ.get("FUZZ_SEED", "4")


async def test_the_gateways_responses_match_its_document(system, tmp_path):
    key = await system.create_key("acme")
    await _open_cases(system.url, key, 20)
    await _hold_to(f"{system.url}/openapi.json", key, tmp_path, EXAMPLES)


@pytest.mark.skipif(not LONG, reason="takes a while: make fuzz")
async def test_the_operators_routes_match_their_document(system, tmp_path):
    key = await system.create_key("operations")
    await _hold_to(f"{system.admin_url}/v1/ops/openapi.json", key, tmp_path, max(1, EXAMPLES // 4))


async def _hold_to(document: str, key: str, folder: Path, examples: int) -> None:
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG if LONG else CONFIG + WITHOUT_BATCHES)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", config, "run", document),
        *("--header", f"Authorization: Bearer {key}", "--max-examples", str(examples), "--seed", SEED, "--no-color"),
        *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),  # hooks.py replaces it
        *("--generation-database", "none", "--suppress-health-check", "all", "--request-timeout", "60"),
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks", "PYTHONPATH": str(ROOT)},
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed = (await process.communicate())[0].decode()
    print(printed)
    assert process.returncode == 0, printed


async def _open_cases(url: str, key: str, count: int) -> None:
    """Open cases for Schemathesis to acknowledge; it finds them in the list."""
    ticket = {"customer_id": "C-1", "channel": "email", "priority": "urgent", "title": "Desk arrived damaged"}
    event = {"specversion": "1.0", "source": "/tests", "type": "ticket.opened"}
    batch = [event | {"id": f"{number}", "data": ticket | {"ticket_id": f"{number}"}} for number in range(count)]
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=20) as client:
        headers = {"Content-Type": "application/cloudevents-batch+json"}
        sent = await client.post("/v1/events", json=batch, headers=headers)
        assert sent.status_code == 202, sent.text

        async def opened() -> bool:
            return len((await client.get("/v1/escalations")).json()["items"]) == count

        await eventually(opened)
