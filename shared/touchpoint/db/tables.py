"""The plumbing tables every service's database holds. They stand above tenants."""

from sqlalchemy import BigInteger, Column, DateTime, Identity, Integer, LargeBinary, MetaData, Table, Text, text
from sqlalchemy.dialects.postgresql import UUID

metadata = MetaData()

_now = text("now()")


def _moment(name: str, *, default: bool = False, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), server_default=_now if default else None, nullable=nullable)


offsets = Table(
    "offsets",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next", BigInteger, nullable=False, comment="the first offset not yet applied: last record + 1"),
    Column("cluster_id", Text, nullable=False, comment="offsets mean something in this Kafka cluster only"),
    _moment("read_through", nullable=True),
    _moment("updated_at", default=True),
    comment="How far each consumer has applied each partition; committed with the effects. "
    "All that was appended before read_through has been applied.",
)

inbox = Table(
    "inbox",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("event_id", UUID(as_uuid=True), primary_key=True, comment="uuid5 of tenant, source and id"),
    Column("type", Text, nullable=False),
    Column("payload_hash", LargeBinary, nullable=False, comment="BLAKE2b, 16 bytes, of the value"),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    comment="Every event that was applied, once. Kept as long as the log.",
)

conflicts = Table(
    "conflicts",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("event_id", UUID(as_uuid=True), nullable=False, index=True),
    _moment("seen_at", default=True),
    comment="Records with the id of an applied event but another payload: seen, not applied.",
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("event_id", UUID(as_uuid=True), nullable=True, index=True),
    Column("tenant_id", Text, nullable=True),
    Column("type", Text, nullable=True),
    Column("stage", Text, nullable=False, comment="decode | validate | handle"),
    Column("error", Text, nullable=False, comment="the error's class"),
    Column("reason", Text, nullable=False),
    Column("fingerprint", Text, nullable=False, comment="equal for equal causes"),
    Column("state", Text, nullable=False, server_default="open", comment="open | redriven | discarded"),
    _moment("failed_at", default=True),
    comment="What could not be handled, by its place in the log; the bytes are in the dead-letter topic.",
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=True, comment="set on a dead letter: its source's partition"),
    Column("key", LargeBinary, nullable=True),
    Column("value", LargeBinary, nullable=True),
    Column("headers", LargeBinary, nullable=False, comment="JSON list of [name, base64 value]"),
    _moment("created_at", default=True),
    comment="Events waiting for the relay; a row is deleted once Kafka has acknowledged it.",
)

consumers = Table(
    "consumers",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("state", Text, nullable=False, server_default="running", comment="running | paused | halted"),
    Column("reason", Text, nullable=True),
    _moment("since", default=True),
    comment="Whether a consumer may work. Halted: it stopped itself and says why; an operator resumes it.",
)
