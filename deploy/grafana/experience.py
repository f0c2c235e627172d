"""The dashboard Customer experience, for people responsible for customers; it queries the services' databases."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

from deploy.grafana.panels import NEUTRAL, POSTGRESQL, add, bars, board, lines, number, rows, source, sql

ROLLUPS = "FROM rollups WHERE tenant_id = ${tenant:sqlstring} AND $__timeFilter(quarter) AND metric"
NET = """100.0 * (coalesce(sum(n) FILTER (WHERE bucket >= 9), 0) - coalesce(sum(n) FILTER (WHERE bucket <= 6), 0))
         / nullif(sum(n), 0)"""
SATISFIED = """coalesce(sum(n) FILTER (WHERE bucket >= CASE WHEN split_part(scale, '-', 2)::int
         - split_part(scale, '-', 1)::int < 4 THEN split_part(scale, '-', 2)::int
         ELSE split_part(scale, '-', 2)::int - 1 END), 0)::float / nullif(sum(n), 0)"""
"""The top two boxes; the top one on scales of fewer than five points. Same as in `metrics_svc.catalogue.service`."""
GAMMA = "(1.01 / 0.99)"
"""γ of the sketch's buckets (`metrics_svc.counting.sketch`): bucket i stands for 2γ^(i−1) / (γ + 1) microseconds."""
OF_TENANT = "WHERE tenant_id = ${tenant:sqlstring}"
SETTLED = f"FROM clocks {OF_TENANT} AND state IN ('achieved', 'breached') AND $__timeFilter(due_at)"
CASES = f"FROM escalations {OF_TENANT}"


def build() -> Dashboard:
    """Build the dashboard."""
    made = board(
        "experience",
        "Touchpoint / Customer experience",
        "NPS, CSAT, effort, response times and cases.",
        refresh="5m",
        since="30d",
    )
    made.with_variable(source("metrics", "Database of metrics-svc", POSTGRESQL).regex("/metrics/i"))
    made.with_variable(source("escalation", "Database of escalation-svc", POSTGRESQL).regex("/escalation/i"))
    tenants = QueryVariable("tenant").label("Tenant").datasource(DataSourceRef(POSTGRESQL, "${metrics}"))
    tenants.query("SELECT DISTINCT tenant_id FROM rollups ORDER BY 1").refresh(VariableRefresh.ON_DASHBOARD_LOAD)
    made.with_variable(tenants)
    _now(made)
    _scores(made)
    _times(made)
    _cases(made)
    return made


def _now(made: Dashboard) -> None:
    score = ((None, "red"), (0, "orange"), (30, "green"))
    share = ((None, "red"), (0.7, "orange"), (0.9, "green"))
    attained = f"SELECT count(*) FILTER (WHERE state = 'achieved')::float / nullif(count(*), 0) {SETTLED}"
    open_cases = f"SELECT count(*) {CASES} AND state <> 'resolved'"
    add(
        made,
        "In the selected time range",
        number(
            "NPS",
            "none",
            sql("metrics", f"SELECT {NET} {ROLLUPS} = 'nps'"),
            limits=score,
            about="Promoters (9, 10) minus detractors (0 to 6), per hundred answers.",
        ),
        number(
            "CSAT",
            "percentunit",
            sql("metrics", f"SELECT {SATISFIED} {ROLLUPS} = 'csat'"),
            limits=share,
            about="Share of answers in the top two boxes of their scale.",
        ),
        number(
            "Effort",
            "none",
            sql("metrics", f"SELECT sum(total)::float / nullif(sum(n), 0) {ROLLUPS} = 'ces' AND scale = '1-7'"),
            limits=((None, "red"), (4, "orange"), (5.5, "green")),
            about="Mean agreement with “made it easy”, on a scale of 1 to 7.",
        ),
        number(
            "First response within target",
            "percentunit",
            sql("escalation", attained),
            limits=share,
            about="Share of the clocks due in the time range.",
        ),
        number(
            "Open cases",
            "none",
            sql("escalation", open_cases),
            limits=NEUTRAL,
            about="All unresolved cases, whenever they were opened.",
        ),
        number(
            "Answers",
            "none",
            sql("metrics", f"SELECT sum(n) {ROLLUPS} IN ('nps', 'csat', 'ces')"),
            about="Number of answers behind the scores; scores of few answers vary widely.",
        ),
    )


def _scores(made: Dashboard) -> None:
    daily = "SELECT date_trunc('day', quarter) AS time, {} {} GROUP BY 1 ORDER BY 1"
    add(
        made,
        "What customers say",
        lines(
            "NPS by day",
            "short",
            sql("metrics", daily.format(f'{NET} AS "NPS"', f"{ROLLUPS} = 'nps'"), "time_series"),
            about="Varies widely on days with few answers; see Answers by day.",
            wide=8,
        ),
        lines(
            "CSAT by day",
            "percentunit",
            sql("metrics", daily.format(f'{SATISFIED} AS "CSAT"', f"{ROLLUPS} = 'csat'"), "time_series"),
            about="Share of the top two boxes.",
            wide=8,
        ),
        lines(
            "Answers by day",
            "short",
            sql(
                "metrics",
                "SELECT date_trunc('day', quarter) AS time, metric, sum(n)::bigint AS answers "
                f"{ROLLUPS} IN ('nps', 'csat', 'ces') GROUP BY 1, 2 ORDER BY 1",
                "time_series",
            ),
            about="By metric.",
            wide=8,
        ),
        bars(
            "Answers to NPS",
            "none",
            sql(
                "metrics",
                f"SELECT bucket::text AS score, sum(n)::bigint AS answers {ROLLUPS} = 'nps' "
                "GROUP BY bucket ORDER BY bucket",
            ),
            about="How often each score was given.",
            wide=8,
        ),
        rows(
            "NPS by channel and segment",
            sql(
                "metrics",
                f"SELECT channel, segment, sum(n)::bigint AS answers, round(({NET})::numeric, 1) AS nps "
                f"{ROLLUPS} = 'nps' GROUP BY 1, 2 ORDER BY answers DESC LIMIT 50",
            ),
            about="By the customer's segment at the time of the answer.",
            wide=16,
        ),
    )


def _times(made: Dashboard) -> None:
    add(
        made,
        "How fast we answer",
        rows(
            "Times",
            sql("metrics", _times_by_metric()),
            wide=12,
            about="Seconds. Median, p90 and p99 are within 1 % of the exact values; the mean is exact.",
        ),
        lines(
            "First response within target, by day",
            "percentunit",
            sql(
                "escalation",
                "SELECT date_trunc('day', due_at) AS time, count(*) FILTER (WHERE state = 'achieved')"
                f'::float / count(*) AS "within target" {SETTLED} GROUP BY 1 ORDER BY 1',
                "time_series",
            ),
            about="Share of the clocks due on that day.",
        ),
        rows(
            "First response within target, by priority",
            sql(
                "escalation",
                "SELECT priority, count(*) AS clocks, count(*) FILTER (WHERE state = 'breached') AS late, "
                "round(100.0 * count(*) FILTER (WHERE state = 'achieved') / count(*), 1) AS percent_within_target "
                f"{SETTLED} GROUP BY 1 ORDER BY clocks DESC",
            ),
            about="Clocks due in the time range.",
        ),
    )


def _times_by_metric() -> str:
    """SQL for percentiles from the running sum over the sketch's buckets."""
    seconds = f"2 * power({GAMMA}, bucket - 1) / ({GAMMA} + 1) / 1e6"
    at = "round((min(seconds) FILTER (WHERE upto >= {share} * n))::numeric, 1) AS {name}"
    shares = ", ".join(at.format(share=s, name=n) for s, n in ((0.5, "median"), (0.9, "p90"), (0.99, "p99")))
    return f"""
        WITH counted AS (SELECT metric, bucket, sum(n) AS n, sum(total) AS total {ROLLUPS} IN ('first-response',
                         'resolution') GROUP BY 1, 2),
             ranked AS (SELECT metric, CASE WHEN bucket = 0 THEN 0 ELSE {seconds} END AS seconds,
                        sum(n) OVER (PARTITION BY metric ORDER BY bucket) AS upto,
                        sum(n) OVER (PARTITION BY metric) AS n,
                        sum(total) OVER (PARTITION BY metric) AS total FROM counted)
        SELECT metric, max(n)::bigint AS tickets, {shares}, round(max(total) / max(n) / 1e6, 1) AS mean
          FROM ranked GROUP BY metric ORDER BY metric"""


def _cases(made: Dashboard) -> None:
    add(
        made,
        "Cases",
        bars(
            "Open cases by reason",
            "none",
            sql(
                "escalation",
                f"SELECT reason, count(*) AS cases {CASES} AND state <> 'resolved' GROUP BY 1 ORDER BY cases DESC",
            ),
            about="Unresolved cases.",
            wide=8,
        ),
        lines(
            "Cases opened by day and reason",
            "short",
            sql(
                "escalation",
                f"SELECT date_trunc('day', opened_at) AS time, reason, count(*) AS cases {CASES} "
                "AND $__timeFilter(opened_at) GROUP BY 1, 2 ORDER BY 1",
                "time_series",
            ),
            about="All cases, resolved or not.",
            wide=8,
        ),
        rows(
            "Longest open",
            sql(
                "escalation",
                "SELECT opened_at, reason, priority, state, policy, acknowledged_by "
                f"{CASES} AND state <> 'resolved' ORDER BY opened_at LIMIT 20",
            ),
            about="Customers are left out; people who work on a case see them in the API.",
            wide=8,
        ),
    )
