"""The report of a verification: counts and findings."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from touchpoint.contracts.record import owner_of
from touchpoint.db import erasures
from touchpoint.db.offsets import Place
from touchpoint.kafka.batch import Entry

MOST_EXAMPLES = 5
MOST_CUSTOMERS = 1000
MOST_GONE = 10_000
"""The most examples of GONE: the operator needs all events that exist only here, to have them sent again."""


class Fault(StrEnum):
    """A kind of violation of the exactly-once guarantee."""

    MISSING = "missing"
    """An event that was read is neither applied nor a dead letter, or one of its rows is missing."""
    TWICE = "applied twice"
    """An effect exists more often than its event."""
    CHANGED = "changed"
    """A row or a sum differs from the one rebuilt from the log."""
    GONE = "gone from Kafka"
    """Kafka has lost an event that was applied: what is stored here is its last copy."""
    FORGOTTEN = "forgotten"
    """The database holds an older state of a decision than the service's own topic, which the consumer has read."""
    UNEXPLAINED = "unexplained"
    """A row that no event of the log accounts for."""
    OUT_OF_ORDER = "out of order"
    """An event was applied after a later one of the same customer in the same topic."""
    REFUSED = "refused"
    """An event was applied that today's handlers refuse."""
    UNPUBLISHED = "unpublished"
    """An event caused by another event, a decision or a dead letter is neither in its topic nor in the outbox."""


@dataclass
class Extent:
    """The customers, times (when the gateway received the event) and offsets of a finding's events."""

    customers: set[erasures.Customer] = field(default_factory=set)
    """Tenant and customer, at most MOST_CUSTOMERS."""
    first: datetime | None = None
    last: datetime | None = None
    spans: dict[Place, tuple[int, int]] = field(default_factory=dict)
    """Per partition: the first offset, and the end (exclusive)."""

    def take(self, entry: Entry) -> None:
        """Extend the extent to this record."""
        record = entry.record
        if len(self.customers) < MOST_CUSTOMERS:
            self.customers.add(owner_of(record))
        begin, end = self.spans.setdefault((record.topic, record.partition), (record.offset, record.offset))
        self.spans[record.topic, record.partition] = min(begin, record.offset), max(end, record.offset + 1)
        if entry.event is not None:
            recorded = entry.event.meta.recorded
            self.first, self.last = min(self.first or recorded, recorded), max(self.last or recorded, recorded)

    def as_json(self) -> dict[str, Any]:
        """For JSON output, with a few of the customers."""
        return {
            "customers": len(self.customers),
            "some_customers": sorted(self.customers)[:MOST_EXAMPLES],
            "first_recorded": self.first,
            "last_recorded": self.last,
            "spans": [[*place, *span] for place, span in sorted(self.spans.items())],
        }


@dataclass
class Finding:
    """All faults of one kind in one topic or table: their number and a few examples."""

    fault: Fault
    where: str
    count: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)
    extent: Extent | None = None
    """Only for faults of records in the log."""

    def as_json(self) -> dict[str, Any]:
        """For JSON output."""
        members = {"fault": self.fault, "where": self.where, "count": self.count, "examples": self.examples}
        return members | ({"extent": self.extent.as_json()} if self.extent else {})


@dataclass
class Report:
    """The result for one consumer. Without findings, the guarantee is kept."""

    consumer: str
    outcomes: Counter[str] = field(default_factory=Counter)
    """Records read, by outcome: applied, ignored, duplicate, conflict, open, redriven, discarded, missing …"""
    pending: int = 0
    """Records the consumer has not read yet."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows compared, by effect."""
    published: int = 0
    """Number of events caused by the consumer, and of dead letters, that were checked for publication."""
    notes: list[str] = field(default_factory=list)
    """What could not be checked, with the reason."""
    most_examples: int = MOST_EXAMPLES
    """The most examples per finding."""
    _findings: dict[tuple[Fault, str], Finding] = field(default_factory=dict)

    @property
    def findings(self) -> Sequence[Finding]:
        """All findings."""
        return list(self._findings.values())

    @property
    def records(self) -> int:
        """Number of records read."""
        return self.outcomes.total()

    def find(self, fault: Fault, where: str, example: dict[str, Any], entry: Entry | None = None) -> None:
        """Add a fault; `entry`: the record concerned, if it is in the log."""
        finding = self._findings.setdefault((fault, where), Finding(fault, where))
        if entry is not None:
            finding.extent = finding.extent or Extent()
            finding.extent.take(entry)
        finding.count += 1
        if len(finding.examples) < (MOST_GONE if fault is Fault.GONE else self.most_examples):
            finding.examples.append(example)

    def count(self, fault: Fault) -> int:
        """The number of faults of this kind, in all topics and tables."""
        return sum(finding.count for finding in self.findings if finding.fault is fault)

    def as_json(self) -> dict[str, Any]:
        """For JSON output."""
        return {
            "consumer": self.consumer,
            "clean": not self.findings,
            "records": self.records,
            "pending": self.pending,
            "outcomes": dict(self.outcomes),
            "rows": self.rows,
            "published": self.published,
            "findings": [finding.as_json() for finding in self.findings],
            "notes": self.notes,
        }
