"""The dashboard On call: lag, dead letters, outboxes, replays and timers, the panels that runbooks refer to."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import BAD_FROM_ONE, add, board, lines, listed, now, number, prom, prometheus_source, rows


def build() -> Dashboard:
    """Build the dashboard."""
    made = board(
        "oncall",
        "Touchpoint / On call",
        "Lag, dead letters, replays and timers: the panels that runbooks refer to.",
        refresh="10s",
        since="3h",
    ).with_variable(prometheus_source())
    _now(made)
    _lag(made)
    _dead_letters(made)
    _replays(made)
    _timers(made)
    return made


def _now(made: Dashboard) -> None:
    numbers = (
        ("Consumers halted", "sum(max by (consumer) (touchpoint_consumer_halted))", "Runbook: consumer-halted."),
        ("Consumers paused", "sum(max by (consumer) (touchpoint_consumer_paused))", "Runbook: consumer-paused."),
        ("Dead letters open", "sum(max by (consumer) (touchpoint_dead_letters_open))", "Runbook: dead-letters-rise."),
        ("Consumers without Kafka", "sum(1 - touchpoint_consumer_kafka_up)", "Runbook: broker-down."),
        ("Failing readiness checks", "sum(1 - touchpoint_ready)", "Runbook: process-down."),
        ("Clocks overdue", "max(touchpoint_escalation_clocks_overdue)", "Runbook: clocks-late."),
    )
    panels = (number(title, "none", now(expr), about=about, limits=BAD_FROM_ONE) for title, expr, about in numbers)
    add(made, "Now", *panels)


def _lag(made: Dashboard) -> None:
    add(
        made,
        "Lag",
        lines(
            "Lag in time",
            "s",
            prom("max by (consumer) (touchpoint_consumer_lag_seconds)", "{{consumer}}"),
            wide=8,
            about="Age of the oldest event not applied; 0 if all are applied. Runbook: lag-grows.",
        ),
        lines(
            "Lag in records",
            "short",
            prom(
                "sum by (consumer) (max by (consumer, topic, partition) (touchpoint_consumer_lag_records))",
                "{{consumer}}",
            ),
            wide=8,
            about="Records that the consumer has not applied.",
        ),
        rows(
            "Partitions, the oldest first",
            listed("topk(10, max by (consumer, topic, partition) (touchpoint_consumer_lag_seconds))"),
            wide=8,
            about="If one lags: probably one customer's events in bulk. If all lag: the consumer is slow or stopped.",
        ),
    )


def _dead_letters(made: Dashboard) -> None:
    add(
        made,
        "Dead letters and outboxes",
        lines(
            "Dead letters",
            "cps",
            prom(
                'sum by (consumer) (rate(touchpoint_consumer_records_total{outcome="dead_lettered"}'
                "[$__rate_interval]))",
                "{{consumer}}",
            ),
            wide=8,
            about="Rate of events that could not be handled. touchpoint dlq stats groups them by cause.",
        ),
        lines(
            "Dead letters open",
            "short",
            prom("max by (consumer) (touchpoint_dead_letters_open)", "{{consumer}}"),
            wide=8,
            about="Dead letters neither redriven nor discarded.",
        ),
        lines(
            "Age of the oldest row in the outbox",
            "s",
            prom("max by (service) (touchpoint_outbox_oldest_age_seconds)", "{{service}}"),
            wide=8,
            about="How long the oldest event has waited to be sent to Kafka. Runbook: outbox-grows.",
        ),
    )


def _replays(made: Dashboard) -> None:
    add(
        made,
        "Replays",
        lines(
            "Replays",
            "short",
            prom("max by (consumer, state) (touchpoint_replays)", "{{consumer}} {{state}}"),
            wide=8,
            about="Replays that are planned, running, paused, built or failed. Runbook: replay-stuck.",
        ),
        lines(
            "Progress of the running replay",
            "percentunit",
            prom(
                "max by (consumer) (touchpoint_replay_passed_records "
                "/ clamp_min(touchpoint_replay_planned_records, 1))",
                "{{consumer}}",
            ),
            wide=8,
            about="Share of the planned records that are processed; 0 while no replay runs.",
        ),
        lines(
            "Records replayed",
            "cps",
            prom(
                "sum by (consumer, outcome) (rate(touchpoint_replay_records_total[$__rate_interval]))",
                "{{consumer}} {{outcome}}",
            ),
            wide=8,
            about="duplicate: was applied before; applied: was missing and is applied now.",
        ),
    )


def _timers(made: Dashboard) -> None:
    rates = "sum by (le) (rate(touchpoint_escalation_timer_lateness_seconds_bucket[$__rate_interval]))"
    late = f"histogram_quantile({{}}, {rates})"
    add(
        made,
        "Response clocks",
        lines(
            "Lateness of clocks",
            "s",
            prom(late.format(0.5), "50 %"),
            prom(late.format(0.99), "99 %"),
            wide=8,
            about="From when a warning or breach was due until it was published. The objective is 5 s.",
        ),
        lines(
            "Clocks overdue",
            "short",
            prom("max(touchpoint_escalation_clocks_overdue)", "overdue"),
            wide=8,
            about="Clocks past due that have not fired.",
        ),
        lines(
            "Clocks settled",
            "cps",
            prom(
                "sum by (outcome) (rate(touchpoint_escalation_clocks_settled_total[$__rate_interval]))", "{{outcome}}"
            ),
            wide=8,
            about="Clocks that ended, by outcome: achieved, breached or cancelled.",
        ),
    )
