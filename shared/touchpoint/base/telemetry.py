"""Names of the metrics and log events of the shared parts, and how a process logs. No tenant or customer is a label."""

import logging
import sys
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram, Info, disable_created_metrics

from touchpoint.base.bulk import BulkHistogram
from touchpoint.base.explain import text

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each counter, which nobody reads

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
OUTCOMES = ("applied", "duplicate", "conflict", "dead_lettered", "ignored")
"""What becomes of a record that a consumer reads."""

BUILD = Info("touchpoint_build", "Which version runs here.")
READY = Gauge("touchpoint_ready", "1 while this check of /readyz passes, as it did when this was asked.", ["check"])
LOOP_LAG = Histogram(
    "touchpoint_event_loop_lag_seconds",
    "How much later than asked for a pause ended: so long nothing else could be done, heartbeats and answers included.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
POOL_IN_USE = Gauge(
    "touchpoint_database_pool_in_use_connections", "Connections to PostgreSQL that are at work.", ["pool"]
)
POOL_MAX = Gauge("touchpoint_database_pool_max_connections", "Connections to PostgreSQL there may be.", ["pool"])
HTTP_SECONDS = Histogram(
    "touchpoint_http_request_duration_seconds",
    "From a request's headers to the end of its answer, by the route's pattern. Status 499: the client left first.",
    ["method", "route", "status"],
    buckets=_SECONDS,
)
OPEN_CONNECTIONS = Gauge(
    "touchpoint_http_open_connections", "Clients' connections to a process, by server: api, admin.", ["server"]
)
CONNECTIONS_ENDED = Counter(
    "touchpoint_http_connections_ended_total",
    "Clients' connections the server has ended: refused and idle (there were too many), headers_too_slow, "
    "headers_too_large, malformed, body_too_slow, answer_not_read.",
    ["reason"],
)
RECORDS = Counter(
    "touchpoint_consumer_records_total",
    "Records read from Kafka, by what became of them: applied, duplicate, conflict, dead_lettered, ignored.",
    ["consumer", "topic", "outcome"],
)
BATCH_SECONDS = Histogram(
    "touchpoint_consumer_batch_duration_seconds",
    "Time to apply one batch, database included.",
    ["consumer"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
EVENT_AGE = BulkHistogram(
    "touchpoint_consumer_event_age_seconds",
    "How old an event is when its effects are committed: since Kafka appended it, by the broker's clock.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200),
)
RETRIES = Counter(
    "touchpoint_consumer_retries_total",
    "Batches rolled back to be tried again: transient, fence_lost, bisected.",
    ["consumer", "reason"],
)
HALTED = Gauge("touchpoint_consumer_halted", "1 while the consumer has stopped itself.", ["consumer"])
PAUSED = Gauge("touchpoint_consumer_paused", "1 while the consumer is paused by an operator.", ["consumer"])
KAFKA_UP = Gauge("touchpoint_consumer_kafka_up", "1 while Kafka answers the consumer.", ["consumer"])
LAG = Gauge(
    "touchpoint_consumer_lag_records",
    "Records in the partition that the consumer has not applied, as its service's workers see it.",
    ["consumer", "topic", "partition"],
)
LAG_SECONDS = Gauge(
    "touchpoint_consumer_lag_seconds",
    "How long ago Kafka appended the oldest record of the partition that the consumer has not applied; 0: none waits.",
    ["consumer", "topic", "partition"],
)
DEAD_LETTERS = Gauge(
    "touchpoint_dead_letters_open",
    "Events that could not be handled and wait for a person (at most 100000).",
    ["consumer"],
)
TOPIC_DEVIATIONS = Gauge(
    "touchpoint_topic_deviations",
    "1 while a topic this process relies on has a setting that is not what it must be; stops=yes: it does not work so.",
    ["topic", "setting", "stops"],
)
OUTBOX_PENDING = Gauge(
    "touchpoint_outbox_pending_rows", "Outbox rows the relay has not sent (at most 100000 are counted)."
)
OUTBOX_PARKED = Gauge("touchpoint_outbox_parked_rows", "Outbox rows that Kafka can never take.")
OUTBOX_AGE = Gauge("touchpoint_outbox_oldest_age_seconds", "Age of the oldest unsent outbox row.")
TASK_SECONDS = Histogram(
    "touchpoint_task_duration_seconds",
    "Time that a run of a recurring task took, whatever came of it.",
    ["task"],
    buckets=(0.005, 0.05, 0.25, 1, 5, 30, 120, 600),
)
TASK_FAILURES = Counter(
    "touchpoint_task_failures_total", "Runs of a recurring task that failed; they are repeated.", ["task"]
)
TASK_FAILING = Gauge("touchpoint_task_failing", "1 while the last run of a recurring task has failed.", ["task"])
TABLE_BYTES = Gauge("touchpoint_table_size_bytes", "A table on disk, with its indexes and large values.", ["table"])
RELAYED = Counter("touchpoint_relay_records_total", "Outbox rows sent to Kafka and acknowledged.")
RELAY_PARKED = Counter("touchpoint_relay_parked_total", "Outbox rows that Kafka can never take, when that was seen.")
RELAY_FAILURES = Counter(
    "touchpoint_relay_failures_total",
    "Rounds of the relay that failed, in whole or in part; they are repeated.",
)
RELAY_SECONDS = Histogram(
    "touchpoint_relay_round_duration_seconds",
    "Time to read outbox rows, send them and delete what was acknowledged; rounds with nothing to send are left out.",
    buckets=_SECONDS,
)
PRODUCED = Counter(
    "touchpoint_producer_records_total",
    "Records to be sent to Kafka, by whether it has acknowledged them in time: acknowledged, failed.",
    ["producer", "outcome"],
)
SEND_SECONDS = Histogram(
    "touchpoint_producer_send_duration_seconds",
    "From the call that sends one or more records until Kafka has acknowledged them, or the caller gave up.",
    ["producer"],
    buckets=_SECONDS,
)
IN_FLIGHT = Gauge(
    "touchpoint_producer_in_flight_bytes", "Bytes of records waiting for Kafka's acknowledgement.", ["producer"]
)
REPLAYED = Counter(
    "touchpoint_replay_records_total",
    "Records read again by replays and redrives, by what became of them: as touchpoint_consumer_records_total, erased.",
    ["consumer", "topic", "outcome"],
)
REPLAYS = Gauge(
    "touchpoint_replays", "Replays in a state: planned, running, paused, built, failed.", ["consumer", "state"]
)
REPLAY_PASSED = Gauge(
    "touchpoint_replay_passed_records",
    "Of the replay that runs: records it has passed; 0 while none does.",
    ["consumer"],
)
REPLAY_TO_PASS = Gauge(
    "touchpoint_replay_planned_records", "Of the replay that runs: records it has to pass in all.", ["consumer"]
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
    """Have a consumer's series from its start on: what begins at 1 was never seen to rise."""
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
    """The logger; bind `trace` and `event_id` where there are any."""
    return structlog.get_logger()


def configure_logging(service: str, level: str, form: str) -> None:
    """Structured logs on stderr, one JSON object a line (`form` "console": for people), libraries' own included."""
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
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it warns of what anybody may send; that is counted
    structlog.contextvars.bind_contextvars(service=service)


def _trace(exc_info: Any) -> str:
    """An error and what led to it: where, of which kind, and its text where that is known to quote no customer."""
    return "\n".join(_told(exc_info[1])).rstrip()


def _told(error: BaseException) -> Iterator[str]:
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _told(before)
        yield "which led to:"
    yield from map(str.rstrip, traceback.format_tb(error.__traceback__))
    yield f"{type(error).__module__}.{type(error).__qualname__}: {text(error)}".removesuffix(": ")
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _told(part)
