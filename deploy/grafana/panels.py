"""Helpers for dashboards: the builders of Grafana's SDK with the settings that all panels share."""

from collections.abc import Sequence
from typing import Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, stat, table, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery as PromBuilder
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, TooltipDisplayMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS = models.DataSourceRef(type_val="prometheus", uid="${prometheus}")
POSTGRESQL = "grafana-postgresql-datasource"

Query = Builder[Dataquery]


class _Panel(Protocol):
    """The methods that the builders of all panel types share; the SDK has no common type."""

    def with_target(self, target: Query) -> Self: ...

    def datasource(self, datasource: models.DataSourceRef) -> Self: ...


P = TypeVar("P", bound=_Panel)
Limits = Sequence[tuple[float | None, str]]
"""Threshold values and their colours, ascending; the first value is None (no lower limit)."""

BAD_FROM_ONE: Limits = ((None, "green"), (1, "red"))
GOOD_FROM_ONE: Limits = ((None, "red"), (1, "green"))
NEUTRAL: Limits = ((None, "blue"),)


class SqlQuery(Dataquery):
    """A query for Grafana's PostgreSQL data source, for which the SDK has no type."""

    def __init__(self, database: str, sql: str, form: str) -> None:
        self.ref_id = ""
        self.database = database
        self.sql = sql
        self.form = form

    def to_json(self) -> dict[str, object]:
        """The query in Grafana's JSON model."""
        source = models.DataSourceRef(type_val=POSTGRESQL, uid=f"${{{self.database}}}")
        fields = {"rawQuery": True, "editorMode": "code", "format": self.form, "rawSql": self.sql}
        return {"refId": self.ref_id, "datasource": source, **fields}


class _Sql(Builder[Dataquery]):
    def __init__(self, query: SqlQuery) -> None:
        self._query = query

    def build(self) -> Dataquery:
        return self._query


def prom(expr: str, legend: str = "") -> Query:
    """A Prometheus range query, for graphs."""
    return PromBuilder().expr(expr).legend_format(legend or "__auto").range()


def now(expr: str, legend: str = "") -> Query:
    """A Prometheus instant query at the end of the displayed time range."""
    return PromBuilder().expr(expr).legend_format(legend or "__auto").instant()


def listed(expr: str) -> Query:
    """A Prometheus instant query with its result as a table."""
    return PromBuilder().expr(expr).format(PromQueryFormat.TABLE).instant()


def sql(database: str, statement: str, form: str = "table") -> Query:
    """A SQL query. `database` is the dashboard variable of the data source; `form` is table or time_series.

    Refer to the variable `tenant` as `${tenant:sqlstring}`, which Grafana quotes.
    """
    return _Sql(SqlQuery(database, " ".join(statement.split()), form))


def lines(title: str, unit: str, *queries: Query, about: str, wide: int = 12) -> timeseries.Panel:
    """A graph over time. `unit` is a unit of Grafana: s, reqps, bytes, percentunit."""
    panel = timeseries.Panel().title(title).description(about).unit(unit).height(8).span(wide).fill_opacity(8)
    panel.legend(common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM))
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    return _with(panel.min(0) if unit != "short" else panel, queries)


def number(title: str, unit: str, query: Query, *, about: str, limits: Limits = NEUTRAL, wide: int = 4) -> stat.Panel:
    """The last value as a number, coloured by `limits`."""
    panel = stat.Panel().title(title).description(about).unit(unit).height(4).span(wide)
    panel.thresholds(_limits(limits)).reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return _with(panel, [query])


def rows(title: str, query: Query, *, about: str, wide: int = 12) -> table.Panel:
    """A table of the rows of a query."""
    return _with(table.Panel().title(title).description(about).height(8).span(wide), [query])


def bars(title: str, unit: str, query: Query, *, about: str, wide: int = 12) -> bargauge.Panel:
    """A bar for each row: the first column is its name, the second its length."""
    panel = bargauge.Panel().title(title).description(about).unit(unit).height(8).span(wide)
    panel.reduce_options(common.ReduceDataOptions().values(True).calcs(["lastNotNull"])).min(0)
    return _with(panel.thresholds(_limits(NEUTRAL)), [query])


def board(uid: str, title: str, about: str, *, refresh: str, since: str) -> dashboard.Dashboard:
    """An empty dashboard with links to the others."""
    made = dashboard.Dashboard(title).uid(f"touchpoint-{uid}").description(about).tags(["touchpoint"])
    made.refresh(refresh).time(f"now-{since}", "now").timezone("browser").tooltip(models.DashboardCursorSync.CROSSHAIR)
    others = dashboard.DashboardLink("Touchpoint").type(models.DashboardLinkType.DASHBOARDS)
    return made.link(others.tags(["touchpoint"]).as_dropdown(True).keep_time(True))


def add(made: dashboard.Dashboard, title: str, *panels: Builder[models.Panel]) -> None:
    """Add a titled row of panels to a dashboard."""
    made.with_row(dashboard.Row(title))
    for panel in panels:
        made.with_panel(panel)


def source(name: str, label: str, kind: str) -> dashboard.DatasourceVariable:
    """A variable for choosing a data source, so that the dashboard can be imported into any Grafana."""
    return dashboard.DatasourceVariable(name).label(label).type(kind)


def prometheus_source() -> dashboard.DatasourceVariable:
    """The variable for choosing the Prometheus data source."""
    return source("prometheus", "Prometheus", "prometheus")


def _limits(limits: Limits) -> dashboard.ThresholdsConfig:
    steps = [models.Threshold(value=value, color=color) for value, color in limits]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _with(panel: P, queries: Sequence[Query]) -> P:
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        query.build().ref_id = letter  # type: ignore[attr-defined] # both query types have this attribute
        panel.with_target(query)
    first = queries[0].build()
    if isinstance(first, SqlQuery):
        return panel.datasource(models.DataSourceRef(type_val=POSTGRESQL, uid=f"${{{first.database}}}"))
    return panel.datasource(PROMETHEUS)
