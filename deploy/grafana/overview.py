"""The dashboard Overview: service level objectives, ingest, and the services' throughput."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import BAD_FROM_ONE, add, board, lines, now, number, prom, prometheus_source

BUDGET = ((None, "green"), (1, "orange"), (14.4, "red"))
"""Burn rate: how many times faster than allowed the monthly error budget is spent."""


def build() -> Dashboard:
    """Build the dashboard."""
    made = board(
        "overview",
        "Touchpoint / Overview",
        "Service level objectives, events accepted and refused, and events applied.",
        refresh="30s",
        since="1h",
    ).with_variable(prometheus_source())
    _promises(made)
    _gateway(made)
    _services(made)
    return made


def _promises(made: Dashboard) -> None:
    burn = "({}) / {} or vector(0)"
    add(
        made,
        "Service level objectives",
        number(
            "Alerts firing",
            "none",
            now('count(ALERTS{alertstate="firing"}) or vector(0)'),
            limits=BAD_FROM_ONE,
            about="docs/runbooks has a page for each alert.",
        ),
        number(
            "Processes down",
            "none",
            now('sum(1 - up{job="touchpoint"})'),
            limits=BAD_FROM_ONE,
            about="Scrape targets that do not answer Prometheus.",
        ),
        number(
            "Accepting: burn rate",
            "none",
            now(burn.format("touchpoint:ingest_errors:ratio_rate1h >= 0", 0.001)),
            limits=BUDGET,
            about="Objective: 99.9 % of valid events are accepted. At burn rate 1 the error budget lasts a month.",
        ),
        number(
            "Storing: burn rate",
            "none",
            now(burn.format("max(touchpoint:storing_errors:ratio_rate1h >= 0)", 0.01)),
            limits=BUDGET,
            about="Objective: each consumer stores 99 % of events within 5 s. Shows the worst consumer.",
        ),
        number(
            "Clocks: burn rate",
            "none",
            now(burn.format("touchpoint:clock_errors:ratio_rate1h >= 0", 0.001)),
            limits=BUDGET,
            about="Objective: 99.9 % of response clocks fire within 5 s.",
        ),
        number(
            "Oldest event not applied",
            "s",
            now("max(touchpoint_consumer_lag_seconds)"),
            limits=((None, "green"), (5, "orange"), (60, "red")),
            about="Its age in seconds; the maximum of all consumers.",
        ),
    )


def _gateway(made: Dashboard) -> None:
    bucket = 'touchpoint_http_request_duration_seconds_bucket{{service="gateway"}}'
    seconds = f"histogram_quantile({{}}, sum by (le) (rate({bucket}[$__rate_interval])))"
    add(
        made,
        "Gateway",
        lines(
            "Events accepted",
            "cps",
            prom("sum by (mode) (rate(touchpoint_gateway_events_accepted_total[$__rate_interval]))", "{{mode}}"),
            about="Events acknowledged by Kafka, by how they were sent.",
        ),
        lines(
            "Events refused",
            "cps",
            prom("sum by (reason) (rate(touchpoint_gateway_events_refused_total[$__rate_interval]))", "{{reason}}"),
            about="not-acknowledged and too-many-bodies are server failures; the other reasons are sender errors.",
        ),
        lines(
            "Requests by status",
            "reqps",
            prom(
                'sum by (status) (rate(touchpoint_http_request_duration_seconds_count{service="gateway"}'
                "[$__rate_interval]))",
                "{{status}}",
            ),
            about="499: the client disconnected before the response.",
        ),
        lines(
            "Response time",
            "s",
            prom(seconds.format(0.5), "50 %"),
            prom(seconds.format(0.99), "99 %"),
            about="Of all routes. The dashboard Service has it by route.",
        ),
    )


def _services(made: Dashboard) -> None:
    add(
        made,
        "Services",
        lines(
            "Events applied",
            "cps",
            prom(
                'sum by (consumer) (rate(touchpoint_consumer_records_total{outcome="applied"}[$__rate_interval]))',
                "{{consumer}}",
            ),
            about="Events whose effects are committed to the database.",
        ),
        lines(
            "Age of events when stored, 99 %",
            "s",
            prom(
                "histogram_quantile(0.99, sum by (consumer, le) "
                "(rate(touchpoint_consumer_event_age_seconds_bucket[$__rate_interval])))",
                "{{consumer}}",
            ),
            about="From being appended in Kafka to being stored. The objective is 5 s.",
        ),
        lines(
            "Requests failed",
            "percentunit",
            prom(
                'sum by (service) (rate(touchpoint_http_request_duration_seconds_count{status=~"5.."}'
                "[$__rate_interval]) or 0 * rate(touchpoint_http_request_duration_seconds_count[$__rate_interval])) "
                "/ sum by (service) (rate(touchpoint_http_request_duration_seconds_count[$__rate_interval]))",
                "{{service}}",
            ),
            about="Share of responses with status 5xx, by API.",
        ),
        lines(
            "Cases opened",
            "cps",
            prom("sum by (reason) (rate(touchpoint_escalation_cases_opened_total[$__rate_interval]))", "{{reason}}"),
            about="By reason.",
        ),
    )
