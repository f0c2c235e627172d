"""/metrics of all processes: valid for Prometheus, and no additional series for additional tenants."""

import asyncio
import re
from collections import Counter
from pathlib import Path

from tests.deploy.conftest import TENANTS, metrics, use
from tests.deploy.foreign import program
from touchpoint.testing import eventually
from touchpoint.testing.system import READS

LISTED = Path(__file__).parents[2] / "docs" / "metrics.md"


async def test_promtool_reports_nothing_about_the_metrics_of_any_process(system):
    promtool = program("promtool")
    for part, text in (await metrics(system)).items():
        checking = await asyncio.create_subprocess_exec(
            promtool, "check", "metrics", stdin=-1, stdout=-1, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await checking.communicate(text.encode())
        assert (checking.returncode, output.decode()) == (0, ""), part


async def test_a_thousand_tenants_make_no_more_series_than_ten(system):
    before = series(await metrics(system))
    await use(system, range(10, TENANTS))
    after = series(await metrics(system))
    assert after - before == Counter()
    assert max(per_part(await metrics(system)).values()) < 600


async def test_scores_and_open_cases_are_served_only_for_the_configured_tenant(system):
    async def shown():
        text = "".join((await metrics(system)).values())
        return re.findall(r'^(touchpoint_\w+)\{.*tenant="([^"]+)".*\} (\S+)', text, re.MULTILINE)

    expected = {
        ("touchpoint_metrics_nps_points", "tenant-3", "0.0"),  # a 2 and a 9
        ("touchpoint_metrics_csat_ratio", "tenant-3", "1.0"),
        ("touchpoint_metrics_ces_score", "tenant-3", "6.0"),
        ("touchpoint_escalation_open_cases", "tenant-3", "1.0"),
    }
    await eventually(lambda: _same(shown, expected), 60)


async def _same(shown, expected):
    pages = await shown()
    assert set(pages) == expected
    return True


async def test_exactly_the_documented_metrics_are_served(system):
    documented = set(re.findall(r"^\| `(touchpoint_\w+)`", LISTED.read_text(), re.MULTILINE))
    served = {name for text in (await metrics(system)).values() for name in re.findall(r"^# TYPE (\w+)", text, re.M)}
    assert {name for name in served if name.startswith("touchpoint_")} == documented


async def test_table_sizes_are_served_by_the_workers_and_the_gateway(system):
    async def tell():
        return {part for part, text in (await metrics(system)).items() if "touchpoint_table_size_bytes{" in text}

    measuring = {("gateway", "api"), *((service, "worker") for service in READS)}
    await eventually(lambda: _same(tell, measuring), 60)


def series(pages):
    """The number of series by metric name, over all processes."""
    return Counter(
        line.partition("{")[0].partition(" ")[0]
        for text in pages.values()
        for line in text.splitlines()
        if line.startswith("touchpoint_")
    )


def per_part(pages):
    return {part: sum(not line.startswith("#") for line in text.splitlines()) for part, text in pages.items()}
