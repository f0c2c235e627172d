"""The dashboards: up to date, valid by Grafana's types, and every panel's query returns data of a running system."""

import json
import re
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana import __main__ as grafana
from deploy.grafana.panels import POSTGRESQL
from touchpoint.testing import eventually

ROOT = Path(__file__).parents[2]
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(grafana.FOLDER.glob("*.json"))}
KNOWN = set(re.findall(r"`(touchpoint_\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
RECORDED = set(re.findall(r"record: (\S+)", "".join(p.read_text() for p in ROOT.glob("deploy/prometheus/rules/*.yml"))))
SERVICES = {"${metrics}": "metrics-svc", "${escalation}": "escalation-svc"}


def panels(board):
    """The board's panels without rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


PANELS = [
    pytest.param(panel, id=f"{name}-{panel['title']}") for name, board in BOARDS.items() for panel in panels(board)
]
ASKS_PROMETHEUS = [each for each in PANELS if each.values[0]["datasource"]["type"] == "prometheus"]
ASKS_POSTGRESQL = [each for each in PANELS if each.values[0]["datasource"]["type"] == POSTGRESQL]
READER = (ROOT / "deploy" / "grafana" / "reader.sql").read_text()


def test_the_committed_dashboards_are_what_the_code_generates():
    assert {path: path.read_text() for path in grafana.documents()} == grafana.documents()


@pytest.mark.parametrize("name", BOARDS)
def test_grafanas_own_types_have_every_field_of_a_dashboard(name):
    def without_targets(document):
        if isinstance(document, dict):
            return {key: without_targets(value) for key, value in document.items() if key != "targets"}
        return [without_targets(each) for each in document] if isinstance(document, list) else document

    bare = without_targets(BOARDS[name])
    encoded = grafana.JSONEncoder().encode(Dashboard.from_json(bare))
    assert json.loads(encoded) == bare


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_has_unique_panel_ids_and_takes_its_data_sources_from_variables(name):
    board = BOARDS[name]
    ids = [panel["id"] for panel in board["panels"]]
    assert board["uid"] == f"touchpoint-{name}"
    assert sorted(set(ids)) == sorted(ids)
    choices = {each["name"] for each in board["templating"]["list"] if each["type"] == "datasource"}
    sources = {panel["datasource"]["uid"] for panel in panels(board)}
    assert sources <= {f"${{{choice}}}" for choice in choices}


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_title_and_description_and_queries_only_documented_metrics(panel):
    assert panel["title"]
    assert panel["description"]
    assert panel["targets"]
    for target in panel["targets"]:
        names = set(re.findall(r"touchpoint[\w:]+", target.get("expr", "")))
        assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in names - RECORDED} <= KNOWN


@pytest.mark.parametrize("panel", ASKS_PROMETHEUS)
async def test_a_panels_prometheus_query_returns_data_of_a_running_system(panel, prometheus):
    for target in panel["targets"]:
        expr = re.sub(r"\$__(rate_)?interval|\$__range", "2m", target["expr"]).replace("$service", ".+")

        async def answers(expr=expr):
            answer = (await prometheus.get("/api/v1/query", params={"query": expr})).json()
            assert answer["status"] == "success", (expr, answer)
            values = [each["value"][1] for each in answer["data"]["result"]]
            return any(value != "NaN" for value in values)

        assert await eventually(answers, 30), expr


@pytest.mark.parametrize("panel", ASKS_POSTGRESQL)
async def test_a_panels_sql_statement_returns_data_to_grafanas_reader(panel, system):
    async with _reading(system, panel["datasource"]["uid"]) as connection:
        for target in panel["targets"]:
            statement = _filled_in(target["rawSql"])

            async def answers(statement=statement):
                rows = await connection.fetch(statement)
                return rows and any(value is not None for value in rows[0])

            await eventually(answers, 30)


async def test_the_tenant_variable_lists_tenants_and_the_reader_cannot_read_other_tables(system):
    [choice] = [each for each in BOARDS["experience"]["templating"]["list"] if each["name"] == "tenant"]
    async with _reading(system, choice["datasource"]["uid"]) as connection:
        assert "tenant-3" in {row[0] for row in await connection.fetch(choice["query"])}
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM changes")


@asynccontextmanager
async def _reading(system, source):
    """A connection with the role that Grafana uses."""
    connection = await asyncpg.connect(system.dsn(SERVICES[source]))
    try:
        try:
            await connection.execute(READER)
        except asyncpg.InsufficientPrivilegeError:
            pytest.skip("a role that sees every tenant is for a superuser to make")
        await connection.execute("SET ROLE grafana")
        yield connection
    finally:
        await connection.close()


def _filled_in(statement):
    """The statement with Grafana's variables and macros filled in."""
    during = r"\1 BETWEEN now() - interval '1 day' AND now() + interval '1 day'"
    return re.sub(r"\$__timeFilter\((\w+)\)", during, statement).replace("${tenant:sqlstring}", "'tenant-3'")
