"""What is wrong, and since when: lag, dead letters, replays, timers. One row for each runbook."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import BAD_FROM_ONE, add, board, lines, listed, now, number, prom, prometheus_source, rows


def build() -> Dashboard:
    """Build it."""
    made = board(
        "oncall",
        "Touchpoint / On call",
        "Lag, dead letters, replays and timers: what runbooks begin with.",
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
        ("Consumers halted", "sum(max by (consumer) (touchpoint_consumer_halted))", "Page: consumer-halted."),
        ("Consumers paused", "sum(max by (consumer) (touchpoint_consumer_paused))", "Page: consumer-paused."),
        ("Dead letters open", "sum(max by (consumer) (touchpoint_dead_letters_open))", "Page: dead-letters-rise."),
        ("Consumers without Kafka", "sum(1 - touchpoint_consumer_kafka_up)", "Page: broker-down."),
        ("Checks that fail", "sum(1 - touchpoint_ready)", "Page: process-down."),
        ("Clocks overdue", "max(touchpoint_escalation_clocks_overdue)", "Page: clocks-late."),
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
            about="Age of the oldest event not applied; 0: none waits. Page: lag-grows.",
        ),
        lines(
            "Lag in records",
            "short",
            prom(
                "sum by (consumer) (max by (consumer, topic, partition) (touchpoint_consumer_lag_records))",
                "{{consumer}}",
            ),
            wide=8,
            about="Records not applied.",
        ),
        rows(
            "Partitions, the oldest first",
            listed("topk(10, max by (consumer, topic, partition) (touchpoint_consumer_lag_seconds))"),
            wide=8,
            about="One alone: one customer's events come in bulk. All: the consumer is slow or stands still.",
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
            about="Events that could not be handled. By cause: touchpoint dlq stats.",
        ),
        lines(
            "Dead letters open",
            "short",
            prom("max by (consumer) (touchpoint_dead_letters_open)", "{{consumer}}"),
            wide=8,
            about="Neither redriven nor discarded.",
        ),
        lines(
            "Age of the oldest row in the outbox",
            "s",
            prom("max by (service) (touchpoint_outbox_oldest_age_seconds)", "{{service}}"),
            wide=8,
            about="Page: outbox-grows.",
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
            about="That somebody may still do something about. Page: replay-stuck.",
        ),
        lines(
            "Progress of the replay that runs",
            "percentunit",
            prom(
                "max by (consumer) (touchpoint_replay_passed_records "
                "/ clamp_min(touchpoint_replay_planned_records, 1))",
                "{{consumer}}",
            ),
            wide=8,
            about="Records passed of those planned; 0 while none runs.",
        ),
        lines(
            "Records replayed",
            "cps",
            prom(
                "sum by (consumer, outcome) (rate(touchpoint_replay_records_total[$__rate_interval]))",
                "{{consumer}} {{outcome}}",
            ),
            wide=8,
            about="duplicate: had been applied; applied: a gap was filled.",
        ),
    )


def _timers(made: Dashboard) -> None:
    rates = "sum by (le) (rate(touchpoint_escalation_timer_lateness_seconds_bucket[$__rate_interval]))"
    late = f"histogram_quantile({{}}, {rates})"
    add(
        made,
        "Response clocks",
        lines(
            "Clocks fire late by",
            "s",
            prom(late.format(0.5), "half"),
            prom(late.format(0.99), "99 %"),
            wide=8,
            about="From the moment a warning or breach was due. 5 s is promised.",
        ),
        lines(
            "Clocks overdue",
            "short",
            prom("max(touchpoint_escalation_clocks_overdue)", "overdue"),
            wide=8,
            about="Past due and not fired.",
        ),
        lines(
            "Clocks settled",
            "cps",
            prom(
                "sum by (outcome) (rate(touchpoint_escalation_clocks_settled_total[$__rate_interval]))", "{{outcome}}"
            ),
            wide=8,
            about="achieved, breached, cancelled.",
        ),
    )
