"""The dashboard Service: golden signals of the API, consumer, worker and database of a selected service."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable
from grafana_foundation_sdk.models.dashboard import VariableOption, VariableRefresh

from deploy.grafana.panels import PROMETHEUS, Query, add, board, lines, listed, prom, prometheus_source, rows

S = 'service=~"$service"'
CONSUMER = 'consumer=~"$service"'


def build() -> Dashboard:
    """Build the dashboard."""
    services = QueryVariable("service").label("Service").datasource(PROMETHEUS).multi(True).include_all(True)
    services.query("label_values(touchpoint_build_info, service)").refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    services.all_value(".+").current(VariableOption(selected=True, text="All", value="$__all"))
    made = (
        board(
            "service",
            "Touchpoint / Service",
            "Golden signals of one service, or of several side by side.",
            refresh="30s",
            since="1h",
        )
        .with_variable(prometheus_source())
        .with_variable(services)
    )
    _process(made)
    _api(made)
    _consumer(made)
    _worker(made)
    _database(made)
    return made


def _process(made: Dashboard) -> None:
    add(
        made,
        "Processes",
        rows(
            "Versions",
            listed(f"max by (service, role, instance, version) (touchpoint_build_info{{{S}}})"),
            wide=8,
            about="Version of each process, by instance.",
        ),
        rows(
            "Checks",
            listed(f"min by (service, role, check) (touchpoint_ready{{{S}}})"),
            wide=8,
            about="Readiness checks of /readyz: 1 passes, 0 fails.",
        ),
        lines(
            "Event loop lag, 99 %",
            "s",
            _quantile("touchpoint_event_loop_lag_seconds", 0.99, "service, role"),
            wide=8,
            about="How long the event loop was blocked; heartbeats and responses wait meanwhile.",
        ),
        lines(
            "CPU",
            "short",
            prom(f"rate(process_cpu_seconds_total{{{S}}}[$__rate_interval])", "{{service}} {{role}}"),
            about="Cores in use; one process can use about one.",
        ),
        lines(
            "Memory",
            "bytes",
            prom(f"process_resident_memory_bytes{{{S}}}", "{{service}} {{role}}"),
            about="Resident memory of each process.",
        ),
    )


def _api(made: Dashboard) -> None:
    add(
        made,
        "API",
        lines(
            "Requests by route",
            "reqps",
            _rate("touchpoint_http_request_duration_seconds_count", "method, route"),
            about="By route pattern, not by path.",
            wide=8,
        ),
        lines(
            "Requests by status",
            "reqps",
            _rate("touchpoint_http_request_duration_seconds_count", "service, status"),
            about="499: the client disconnected before the response.",
            wide=8,
        ),
        lines(
            "Response time, 99 %, by route",
            "s",
            _quantile("touchpoint_http_request_duration_seconds", 0.99, "method, route"),
            wide=8,
            about="From the request's headers to the end of the response.",
        ),
        lines(
            "Connections ended by the server",
            "cps",
            _rate("touchpoint_http_connections_ended_total", "reason"),
            about="By reason: too many connections, too slow, too large, or not HTTP.",
        ),
        lines(
            "In flight to Kafka",
            "bytes",
            prom(f"sum by (producer) (touchpoint_producer_in_flight_bytes{{{S}}})", "{{producer}}"),
            about="Bytes sent and not acknowledged. Above IN_FLIGHT_BYTES the gateway refuses events.",
        ),
    )


def _consumer(made: Dashboard) -> None:
    add(
        made,
        "Consumer",
        lines(
            "Records by outcome",
            "cps",
            _rate("touchpoint_consumer_records_total", "consumer, outcome"),
            wide=8,
            about="Duplicates are normal after a restart; conflicts and dead letters are not.",
        ),
        lines(
            "Batch duration",
            "s",
            _quantile("touchpoint_consumer_batch_duration_seconds", 0.5, "consumer"),
            _quantile("touchpoint_consumer_batch_duration_seconds", 0.99, "consumer"),
            wide=8,
            about="50th and 99th percentile, including the database transaction.",
        ),
        lines(
            "Batch retries",
            "cps",
            _rate("touchpoint_consumer_retries_total", "consumer, reason"),
            wide=8,
            about="bisected: the batch is split to find a poison event; fence_lost: another consumer took over.",
        ),
        lines(
            "Lag",
            "short",
            prom(
                f"sum by (consumer, topic) (max by (consumer, topic, partition) "
                f"(touchpoint_consumer_lag_records{{{CONSUMER}}}))",
                "{{consumer}} {{topic}}",
            ),
            about="Records that the consumer has not applied.",
        ),
        lines(
            "Age of events when stored",
            "s",
            _quantile("touchpoint_consumer_event_age_seconds", 0.5, "consumer"),
            _quantile("touchpoint_consumer_event_age_seconds", 0.99, "consumer"),
            about="50th and 99th percentile, from being appended in Kafka to being stored.",
        ),
    )


def _worker(made: Dashboard) -> None:
    add(
        made,
        "Worker",
        lines(
            "Outbox",
            "short",
            prom(f"max by (service) (touchpoint_outbox_pending_rows{{{S}}})", "{{service}}"),
            wide=8,
            about="Outbox rows that the relay has not sent.",
        ),
        lines(
            "Relayed",
            "cps",
            _rate("touchpoint_relay_records_total", "service"),
            wide=8,
            about="Outbox rows that Kafka has acknowledged.",
        ),
        lines(
            "Failed relay runs",
            "cps",
            _rate("touchpoint_relay_failures_total", "service"),
            wide=8,
            about="Failed runs are retried; no event is lost.",
        ),
        lines(
            "Records to Kafka",
            "cps",
            _rate("touchpoint_producer_records_total", "producer, outcome"),
            about="By producer: the gateway's and the relays'.",
        ),
        lines(
            "Time for Kafka to acknowledge, 99 %",
            "s",
            _quantile("touchpoint_producer_send_duration_seconds", 0.99, "producer"),
            about="Of one send call, which may contain many records.",
        ),
    )


def _database(made: Dashboard) -> None:
    add(
        made,
        "Database",
        lines(
            "Connections in use",
            "percentunit",
            prom(
                f"max by (service, role, pool) (touchpoint_database_pool_in_use_connections{{{S}}} "
                f"/ touchpoint_database_pool_max_connections{{{S}}})",
                "{{service}} {{role}} {{pool}}",
            ),
            about="Share of each process's pool in use. At 1 further requests wait for a connection.",
        ),
        lines(
            "Tables",
            "bytes",
            prom(f"topk(10, max by (service, table) (touchpoint_table_size_bytes{{{S}}}))", "{{service}} {{table}}"),
            about="The ten largest tables, including their indexes.",
        ),
    )


def _rate(name: str, by: str) -> Query:
    selected = CONSUMER if by.startswith("consumer") else S
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return prom(f"sum by ({by}) (rate({name}{{{selected}}}[$__rate_interval]))", legend)


def _quantile(name: str, share: float, by: str) -> Query:
    selected = CONSUMER if by.startswith("consumer") else S
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", ")) + f" {share:.0%}"
    rates = f"sum by ({by}, le) (rate({name}_bucket{{{selected}}}[$__rate_interval]))"
    return prom(f"histogram_quantile({share}, {rates})", legend)
