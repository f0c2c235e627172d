"""Metrics of imported real conversations equal those that an independent script computes from their file."""

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from touchpoint.testing import eventually
from touchpoint.testing.system import System

from .recompute_customer_care import recompute

EXAMPLES = Path(__file__).parents[2] / "examples" / "import"
ALL_TIME = {"from": "2010-01-01T00:00:00Z", "to": "2030-01-01T00:00:00Z"}


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return Path(shutil.copy(EXAMPLES / "customer-care.sample.json", tmp_path))


async def test_metrics_of_imported_conversations_match_their_file_also_after_a_second_import(running, sample):
    expected = recompute(sample)
    async with running() as system:
        key = await system.create_key("acme")
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=system.url, headers=headers, timeout=20) as gateway:
            for _ in range(2):
                code, summary = await _import(system, key, sample)
                assert (code, summary["records"], summary["refused"]) == (1, 7, expected["left_out"])
                await eventually(system.is_quiet, 60)
                for metric in ("first-response", "resolution"):
                    await _check(gateway, metric, expected[metric])
            assert (await gateway.get("/v1/escalations")).json()["items"] == []


async def _import(system: System, key: str, file: Path) -> tuple[int, dict[str, Any]]:
    mapping = EXAMPLES / "customer-care.yaml"
    arguments = [file, "--mapping", mapping, "--gateway", system.url, "--key", key, "--json"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "touchpoint.cli", "import", *map(str, arguments), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(printed)


async def _check(gateway: httpx.AsyncClient, metric: str, expected: dict[str, float]) -> None:
    answer = (await gateway.get(f"/v1/metrics/{metric}", params=ALL_TIME)).json()
    [item] = answer["items"]
    tolerance = answer["relative_error"]
    assert item["n"] == expected["n"]
    assert round(item["mean_seconds"]) == round(expected["mean"])
    assert item["value"] == pytest.approx(expected["p50"], rel=tolerance)
    assert item["p90_seconds"] == pytest.approx(expected["p90"], rel=tolerance)
