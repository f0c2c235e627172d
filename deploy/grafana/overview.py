"""Is it well? What is promised, what comes in, and what is done with it."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import BAD_FROM_ONE, add, board, lines, now, number, prom, prometheus_source

BUDGET = ((None, "green"), (1, "orange"), (14.4, "red"))
"""How many times faster than allowed a month's budget of errors is spent."""


def build() -> Dashboard:
    """Build it."""
    made = board(
        "overview",
        "Touchpoint / Overview",
        "What is promised, what comes in and what is done with it.",
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
        "Promises",
        number(
            "Alerts firing",
            "none",
            now('count(ALERTS{alertstate="firing"}) or vector(0)'),
            limits=BAD_FROM_ONE,
            about="What each of them means is in docs/runbooks.",
        ),
        number(
            "Processes not answering",
            "none",
            now('sum(1 - up{job="touchpoint"})'),
            limits=BAD_FROM_ONE,
            about="Of those Prometheus knows.",
        ),
        number(
            "Accepting: budget burn",
            "none",
            now(burn.format("touchpoint:ingest_errors:ratio_rate1h >= 0", 0.001)),
            limits=BUDGET,
            about="99.9 % of events offered are durable. 1: the month's budget lasts a month.",
        ),
        number(
            "Storing: budget burn",
            "none",
            now(burn.format("max(touchpoint:storing_errors:ratio_rate1h >= 0)", 0.01)),
            limits=BUDGET,
            about="99 % of events are stored within 5 s by each consumer; the worst of them is shown.",
        ),
        number(
            "Clocks: budget burn",
            "none",
            now(burn.format("touchpoint:clock_errors:ratio_rate1h >= 0", 0.001)),
            limits=BUDGET,
            about="99.9 % of response clocks fire within 5 s.",
        ),
        number(
            "Oldest event not applied",
            "s",
            now("max(touchpoint_consumer_lag_seconds)"),
            limits=((None, "green"), (5, "orange"), (60, "red")),
            about="By any consumer.",
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
            about="Acknowledged by Kafka, by how they came.",
        ),
        lines(
            "Events refused",
            "cps",
            prom("sum by (reason) (rate(touchpoint_gateway_events_refused_total[$__rate_interval]))", "{{reason}}"),
            about="not-acknowledged and too-many-bodies are ours; the others are the senders'.",
        ),
        lines(
            "Requests by answer",
            "reqps",
            prom(
                'sum by (status) (rate(touchpoint_http_request_duration_seconds_count{service="gateway"}'
                "[$__rate_interval]))",
                "{{status}}",
            ),
            about="499: the client left before its answer.",
        ),
        lines(
            "Time to answer",
            "s",
            prom(seconds.format(0.5), "half"),
            prom(seconds.format(0.99), "99 %"),
            about="Of all routes; by route on the dashboard Service.",
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
            about="Committed with all their effects.",
        ),
        lines(
            "Age of events when stored, 99 %",
            "s",
            prom(
                "histogram_quantile(0.99, sum by (consumer, le) "
                "(rate(touchpoint_consumer_event_age_seconds_bucket[$__rate_interval])))",
                "{{consumer}}",
            ),
            about="Since Kafka has them. 5 s is promised.",
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
            about="Share of 5xx among the answers of each API.",
        ),
        lines(
            "Cases opened",
            "cps",
            prom("sum by (reason) (rate(touchpoint_escalation_cases_opened_total[$__rate_interval]))", "{{reason}}"),
            about="By why a person is needed.",
        ),
    )
