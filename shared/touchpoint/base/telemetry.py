"""Metrics and log events of the shared packages, and the configuration of logging. No label is a tenant or customer."""

import logging
import sys
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram, Info, disable_created_metrics

from touchpoint.base.bulk import BulkHistogram
from touchpoint.base.explain import text

disable_created_metrics()  # type: ignore[no-untyped-call] # omits the `_created` series of each counter

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
OUTCOMES = ("applied", "duplicate", "conflict", "dead_lettered", "ignored")
"""The possible outcomes of a record that a consumer reads."""

BUILD = Info("touchpoint_build", "Versions of Touchpoint and of Python that this process runs.")
READY = Gauge("touchpoint_ready", "1 if this check of /readyz passed, 0 if not; run at each scrape.", ["check"])
LOOP_LAG = Histogram(
    "touchpoint_event_loop_lag_seconds",
    "How much longer than requested a sleep took: the event loop was blocked, and heartbeats and answers were delayed.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
POOL_IN_USE = Gauge("touchpoint_database_pool_in_use_connections", "Connections to PostgreSQL in use.", ["pool"])
POOL_MAX = Gauge("touchpoint_database_pool_max_connections", "Size of the pool of PostgreSQL connections.", ["pool"])
HTTP_SECONDS = Histogram(
    "touchpoint_http_request_duration_seconds",
    "Time from a request's headers to the end of its answer, by the route's pattern. Status 499: the client "
    "disconnected before the answer was complete.",
    ["method", "route", "status"],
    buckets=_SECONDS,
)
OPEN_CONNECTIONS = Gauge(
    "touchpoint_http_open_connections", "Open client connections, by server: api, admin.", ["server"]
)
CONNECTIONS_ENDED = Counter(
    "touchpoint_http_connections_ended_total",
    "Client connections that the server has closed, by reason: refused and idle (the connection limit was reached), "
    "headers_too_slow, headers_too_large, malformed, body_too_slow, answer_not_read.",
    ["reason"],
)
RECORDS = Counter(
    "touchpoint_consumer_records_total",
    "Records read from Kafka, by outcome: applied, duplicate, conflict, dead_lettered, ignored.",
    ["consumer", "topic", "outcome"],
)
BATCH_SECONDS = Histogram(
    "touchpoint_consumer_batch_duration_seconds",
    "Time to apply one batch, including its database transaction.",
    ["consumer"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
EVENT_AGE = BulkHistogram(
    "touchpoint_consumer_event_age_seconds",
    "Age of an event when its effects are committed: time since Kafka appended it, by the broker's clock.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200),
)
RETRIES = Counter(
    "touchpoint_consumer_retries_total",
    "Batches rolled back and retried, by reason: transient, fence_lost (another process applied them), bisected (to "
    "isolate a failing event).",
    ["consumer", "reason"],
)
HALTED = Gauge("touchpoint_consumer_halted", "1 while the consumer is halted: it stopped by itself.", ["consumer"])
PAUSED = Gauge("touchpoint_consumer_paused", "1 while the consumer is paused by an operator.", ["consumer"])
KAFKA_UP = Gauge("touchpoint_consumer_kafka_up", "1 while the consumer can reach Kafka.", ["consumer"])
LAG = Gauge(
    "touchpoint_consumer_lag_records",
    "Consumer lag: records of the partition that the consumer has not applied, measured by the service's workers.",
    ["consumer", "topic", "partition"],
)
LAG_SECONDS = Gauge(
    "touchpoint_consumer_lag_seconds",
    "Consumer lag: time since Kafka appended the oldest record of the partition that is not applied; 0 if there is "
    "none.",
    ["consumer", "topic", "partition"],
)
DEAD_LETTERS = Gauge(
    "touchpoint_dead_letters_open",
    "Dead letters that are neither redriven nor discarded (at most 100000 are counted).",
    ["consumer"],
)
TOPIC_DEVIATIONS = Gauge(
    "touchpoint_topic_deviations",
    "1 while a setting of a topic differs from its required value; stops=yes: the process does not work until it is "
    "corrected.",
    ["topic", "setting", "stops"],
)
OUTBOX_PENDING = Gauge(
    "touchpoint_outbox_pending_rows", "Outbox rows the relay has not sent (at most 100000 are counted)."
)
OUTBOX_PARKED = Gauge("touchpoint_outbox_parked_rows", "Parked outbox rows: Kafka will never accept them.")
OUTBOX_AGE = Gauge("touchpoint_outbox_oldest_age_seconds", "Age of the oldest unsent outbox row.")
TASK_SECONDS = Histogram(
    "touchpoint_task_duration_seconds",
    "Duration of a run of a recurring task, whether it succeeded or failed.",
    ["task"],
    buckets=(0.005, 0.05, 0.25, 1, 5, 30, 120, 600),
)
TASK_FAILURES = Counter("touchpoint_task_failures_total", "Failed runs of a recurring task; each is retried.", ["task"])
TASK_FAILING = Gauge("touchpoint_task_failing", "1 if the last run of a recurring task failed.", ["task"])
TABLE_BYTES = Gauge(
    "touchpoint_table_size_bytes", "Size of a table on disk, including its indexes and TOAST data.", ["table"]
)
RELAYED = Counter("touchpoint_relay_records_total", "Outbox rows sent to Kafka and acknowledged.")
RELAY_PARKED = Counter(
    "touchpoint_relay_parked_total", "Outbox rows that the relay has parked, as Kafka will never accept them."
)
RELAY_FAILURES = Counter(
    "touchpoint_relay_failures_total",
    "Rounds of the relay that failed, in whole or in part; each is retried.",
)
RELAY_SECONDS = Histogram(
    "touchpoint_relay_round_duration_seconds",
    "Time to read outbox rows, send them and delete those that were acknowledged; empty rounds are not counted.",
    buckets=_SECONDS,
)
PRODUCED = Counter(
    "touchpoint_producer_records_total",
    "Records sent to Kafka, by outcome: acknowledged in time, or failed.",
    ["producer", "outcome"],
)
SEND_SECONDS = Histogram(
    "touchpoint_producer_send_duration_seconds",
    "Time from the call that sends records until Kafka has acknowledged all of them, or the call timed out.",
    ["producer"],
    buckets=_SECONDS,
)
IN_FLIGHT = Gauge(
    "touchpoint_producer_in_flight_bytes", "Bytes of records that Kafka has not acknowledged yet.", ["producer"]
)
REPLAYED = Counter(
    "touchpoint_replay_records_total",
    "Records read again by replays and redrives, by outcome: those of touchpoint_consumer_records_total, and erased.",
    ["consumer", "topic", "outcome"],
)
REPLAYS = Gauge(
    "touchpoint_replays", "Replays by state: planned, running, paused, built, failed.", ["consumer", "state"]
)
REPLAY_PASSED = Gauge(
    "touchpoint_replay_passed_records",
    "Progress of the running replay: records it has read past; 0 while no replay runs.",
    ["consumer"],
)
REPLAY_TO_PASS = Gauge(
    "touchpoint_replay_planned_records",
    "Size of the running replay: records it has to read in all; 0 while no replay runs.",
    ["consumer"],
)

for _reason in (
    "refused",
    "idle",
    "headers_too_slow",
    "headers_too_large",
    "malformed",
    "body_too_slow",
    "answer_not_read",
):
    CONNECTIONS_ENDED.labels(_reason)

TASK_FAILED = "task.failed"
TOPIC_CHANGED = "topics.changed"
TOPICS_UNSEEN = "topics.unseen"
CONSUMER_ASSIGNED = "consumer.assigned"
CONSUMER_BACKING_OFF = "consumer.backing_off"
CONSUMER_BLOCKER_TERMINATED = "consumer.blocker_terminated"
CONSUMER_CONFLICT = "consumer.conflict"
CONSUMER_DEAD_LETTER = "consumer.dead_letter"
FOLD_FAILED = "fold.failed"
FOLD_REFUSED = "fold.refused"
CONSUMER_FENCE_LOST = "consumer.fence_lost"
CONSUMER_HALTED = "consumer.halted"
CONSUMER_RESUMED = "consumer.resumed"
CONSUMER_STALLED = "consumer.stalled"
CONSUMER_UNREACHABLE = "consumer.kafka_unreachable"
DATABASE_FAILED = "api.database_failed"
DATABASE_FLAW = "database.flaw"
PRODUCER_BROKEN = "producer.broken"
PRODUCER_GAVE_UP = "producer.gave_up"
PRODUCER_UNREACHABLE = "producer.kafka_unreachable"
RELAY_FAILED = "relay.failed"
RELAY_ROW_PARKED = "relay.row_parked"
REPLAY_BACKING_OFF = "replay.backing_off"
REPLAY_ENDED = "replay.ended"
REPLAY_FAILED = "replay.failed"
REPLAY_SWAPPED = "replay.swapped"
REPLAY_TAKEN_UP = "replay.taken_up"
SERVICE_FAILED = "service.failed"
SERVICE_STARTED = "service.started"
SERVICE_STOPPING = "service.stopping"
SERVICE_STOPPED = "service.stopped"
SERVICE_TASK_FAILED = "service.task_failed"
SERVICE_UNHANDLED = "service.unhandled"


def start_consumer(consumer: str, topics: Iterable[str]) -> None:
    """Create a consumer's series at 0, as `rate()` misses the increase of a series whose first sample is not 0."""
    for topic in topics:
        for outcome in OUTCOMES:
            RECORDS.labels(consumer, topic, outcome)
    for reason in ("transient", "fence_lost", "bisected"):
        RETRIES.labels(consumer, reason)
    for gauge in (HALTED, PAUSED, KAFKA_UP):
        gauge.labels(consumer)
    BATCH_SECONDS.labels(consumer)
    EVENT_AGE.start(consumer)


def log() -> Any:
    """The logger; bind `trace` and `event_id` if they are known."""
    return structlog.get_logger()


def configure_logging(service: str, level: str, form: str) -> None:
    """Log to stderr, one JSON object per line (`form` "console": lines for people), including the logs of libraries."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(_trace),
    ]
    renderer = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for library in ("aiohttp", "aiokafka", "httpcore", "httpx"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # its warnings are about bad requests, which a metric counts
    structlog.contextvars.bind_contextvars(service=service)


def _trace(exc_info: Any) -> str:
    """The traceback of an error and of its causes: places, classes, and those messages that quote no customer data."""
    return "\n".join(_trace_lines(exc_info[1])).rstrip()


def _trace_lines(error: BaseException) -> Iterator[str]:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _trace_lines(cause)
        yield "which led to:"
    yield from map(str.rstrip, traceback.format_tb(error.__traceback__))
    yield f"{type(error).__module__}.{type(error).__qualname__}: {text(error)}".removesuffix(": ")
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _trace_lines(part)
