"""Dead letters: events that cannot be handled, copied to a dead-letter topic and indexed in the database."""

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import accumulate

import msgspec
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.contracts import topics
from touchpoint.contracts.base import identity
from touchpoint.contracts.record import Headers, Record, attributes, timestamp
from touchpoint.db import dead_letters, outbox
from touchpoint.db.dead_letters import Attempt, IndexRow
from touchpoint.db.engine import raw_connection
from touchpoint.kafka.packing import MAX_RECORD_BYTES, size

MAX_KEY_BYTES = 10_000
MAX_HEADER_BYTES = 100_000
"""The most bytes a dead letter copies of the record's headers, names included."""
MAX_HEADERS = 1000
MAX_TEXT = 500
"""Characters of each text in the dead-letter index."""

VERSION = version("touchpoint")
"""The consumer's version, kept with each dead letter: a later version may handle the event."""


class _Customer(msgspec.Struct):
    customer_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be handled, and why. `reason` contains no customer data.

    `stage`: where it failed: read, decode, validate or handle.
    """

    record: Record
    stage: str
    error: str
    reason: str

    def __post_init__(self) -> None:
        """Make the reason storable in PostgreSQL: it may quote a field name of malformed data."""
        object.__setattr__(self, "reason", _storable(self.reason))

    def __str__(self) -> str:
        """The record's topic/partition/offset, the error and the reason."""
        return f"{'/'.join(map(str, self.place))}: {self.error}: {self.reason}"

    @property
    def fingerprint(self) -> str:
        """A hash that is equal for equal causes: event type, stage, error and reason."""
        cause = "\x1f".join((self._header("ce_type") or "", self.stage, self.error, self.reason))
        return hashlib.blake2b(cause.encode(), digest_size=8).hexdigest()

    def to_record(self, consumer: str, attempt: Attempt) -> Record:
        """The record for the dead-letter topic: the original value, key, partition and headers, plus `dlq_` headers.

        It is always small enough for Kafka. What is too large is left out, and a header says so: the original is in the
        source topic, at the offset given here.
        """
        ours = {
            "dlq_consumer": consumer,
            "dlq_consumer_version": VERSION,
            "dlq_topic": self.record.topic,
            "dlq_partition": str(self.record.partition),
            "dlq_offset": str(self.record.offset),
            "dlq_stage": self.stage,
            "dlq_error": self.error,
            "dlq_reason": self.reason,
            "dlq_fingerprint": self.fingerprint,
            "dlq_attempt": str(attempt.number),
            "dlq_first_failed_at": timestamp(attempt.first_failed_at),
        }
        copied = _first_headers(self.record)
        if left_out := len(self.record.headers) - len(copied):
            ours["dlq_headers"] = f"{left_out} too many or too large to be copied"
        if len(self.record.key) > MAX_KEY_BYTES:
            ours["dlq_key"] = "too large to be copied whole"
        letter = Record(
            topic=topics.dead_letters(self.record.topic, consumer),
            key=self.record.key[:MAX_KEY_BYTES],
            value=bytes(self.record.value),
            headers=[*copied, *((name, value.encode()) for name, value in ours.items())],
            partition=self.record.partition,
        )
        if size(letter) <= MAX_RECORD_BYTES:
            return letter
        return replace(letter, value=b"", headers=[*letter.headers, ("dlq_value", b"too large to be copied")])

    @property
    def place(self) -> tuple[str, int, int]:
        """The record's logical topic, partition and offset."""
        return self.record.topic, self.record.partition, self.record.offset

    def index_row(self) -> IndexRow:
        """The row of the dead-letter index."""
        tenant, source, event_id = (self._header(name) for name in ("ce_tenant", "ce_source", "ce_id"))
        known = identity(tenant, source, event_id) if tenant and source and event_id else None
        return IndexRow(
            *self.place,
            known,
            tenant,
            self._customer(),
            self._header("ce_type"),
            self._header("traceparent"),
            VERSION,
            self.stage,
            self.error,
            self.reason,
            self.fingerprint,
        )

    def _header(self, name: str) -> str | None:
        value = attributes(self.record.headers).get(name)
        return None if value is None else _storable(value.decode(errors="replace"))

    def _customer(self) -> str | None:
        """The event's customer id, if the value can be decoded that far."""
        try:
            customer_id = msgspec.json.decode(self.record.value, type=_Customer).customer_id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return customer_id and _storable(customer_id)


def _storable(text: str) -> str:
    """The text, cut to MAX_TEXT and without NUL, which PostgreSQL cannot store."""
    return text[:MAX_TEXT].replace("\x00", "\ufffd")


def _first_headers(record: Record) -> Headers:
    """The record's first headers, within MAX_HEADERS and MAX_HEADER_BYTES; a null value becomes an empty one."""
    copied, total = Headers(), 0
    for name, value in record.headers:
        total += len(name.encode()) + len(value or b"")
        if total > MAX_HEADER_BYTES or len(copied) == MAX_HEADERS:
            break
        copied.append((name, value or b""))
    return copied


async def write(session: AsyncSession, consumer: str, letters: Sequence[DeadLetter]) -> None:
    """Index the dead letters and write their records to the outbox, in the batch's transaction."""
    if letters:
        rows = [letter.index_row() for letter in letters]
        attempts = await dead_letters.note(await raw_connection(session), consumer, rows)
        records = [letter.to_record(consumer, attempts[letter.place]) for letter in letters]
        await outbox.write(session, [outbox.row(record) for record in records])


@dataclass(slots=True)
class Limit:
    """When a consumer halts instead of turning a whole topic into dead letters.

    It does on more than `consecutive` dead letters without a success between them (0: on the first one), or when more
    than `share` of the last `window` events are dead letters. The next `may_skip` dead letters do not count.
    """

    consecutive: int = 100
    share: float = 0.5
    window: int = 1000
    may_skip: int = 0
    _in_a_row: int = field(default=0, init=False)
    _recent: deque[bool] = field(default_factory=deque, init=False)

    def exceeded_by(self, outcomes: Sequence[bool]) -> str | None:
        """Why these outcomes (True: a dead letter), added to those counted, exceed the limit; None if they do not."""
        in_a_row, recent = self._after(self._counting(outcomes))
        if in_a_row > self.consecutive:
            reason = f"more than {self.consecutive} dead letters in a row"
            return reason if self.consecutive else "an event cannot be handled, and none may be skipped"
        if len(recent) >= self.window and sum(recent) > self.share * len(recent):
            return f"{sum(recent)} of the last {len(recent)} events are dead letters"
        return None

    def count(self, outcomes: Sequence[bool]) -> None:
        """Count the outcomes of a committed batch."""
        counting = self._counting(outcomes)
        self.may_skip -= len(outcomes) - len(counting)
        self._in_a_row, self._recent = self._after(counting)

    def _counting(self, outcomes: Sequence[bool]) -> Sequence[bool]:
        """The outcomes without the dead letters that may be skipped."""
        if not self.may_skip:
            return outcomes
        dead = accumulate(outcomes)
        return [
            outcome for outcome, number in zip(outcomes, dead, strict=True) if not outcome or number > self.may_skip
        ]

    def _after(self, outcomes: Sequence[bool]) -> tuple[int, deque[bool]]:
        in_a_row = self._in_a_row
        for dead in outcomes:
            in_a_row = in_a_row + 1 if dead else 0
            if in_a_row > self.consecutive:
                break
        return in_a_row, deque((*self._recent, *outcomes), maxlen=self.window)
