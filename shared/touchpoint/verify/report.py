"""What was counted and what was found."""

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
"""Of events whose last copy is here all are named: they are to be asked for again."""


class Fault(StrEnum):
    """A promise that was not kept."""

    MISSING = "missing"
    """An event that was read has no effect and is no dead letter; or one of its rows is not there."""
    TWICE = "applied twice"
    """An effect is there more often than its event."""
    CHANGED = "changed"
    """A row or a sum is not what the log says."""
    GONE = "gone from Kafka"
    """Kafka has lost an event that was applied: what is stored here is its last copy."""
    UNEXPLAINED = "unexplained"
    """A row that no event of the log accounts for."""
    OUT_OF_ORDER = "out of order"
    """An event was applied after a later one of the same customer in the same topic."""
    REFUSED = "refused"
    """An event was applied that today's handlers refuse."""
    UNPUBLISHED = "unpublished"
    """What an event has made the service say, or its dead letter, is neither in its topic nor in the outbox."""


@dataclass
class Extent:
    """Whose the events of a finding are, when the gateway took them in, and where in the log they lie."""

    customers: set[erasures.Customer] = field(default_factory=set)
    """Tenant and customer, MOST_CUSTOMERS at most."""
    first: datetime | None = None
    last: datetime | None = None
    spans: dict[Place, tuple[int, int]] = field(default_factory=dict)
    """In each partition from which offset on and up to where, which is outside."""

    def take(self, entry: Entry) -> None:
        """Have it reach to this record as well."""
        record = entry.record
        if len(self.customers) < MOST_CUSTOMERS:
            self.customers.add(owner_of(record))
        begin, end = self.spans.setdefault((record.topic, record.partition), (record.offset, record.offset))
        self.spans[record.topic, record.partition] = min(begin, record.offset), max(end, record.offset + 1)
        if entry.event is not None:
            recorded = entry.event.meta.recorded
            self.first, self.last = min(self.first or recorded, recorded), max(self.last or recorded, recorded)

    def as_json(self) -> dict[str, Any]:
        """For programs; of customers a few."""
        return {
            "customers": len(self.customers),
            "some_customers": sorted(self.customers)[:MOST_EXAMPLES],
            "first_recorded": self.first,
            "last_recorded": self.last,
            "spans": [[*place, *span] for place, span in sorted(self.spans.items())],
        }


@dataclass
class Finding:
    """One kind of fault in one place (a topic, a table), how often, and a few examples."""

    fault: Fault
    where: str
    count: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)
    extent: Extent | None = None
    """Of a fault of records in the log."""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        found = {"fault": self.fault, "where": self.where, "count": self.count, "examples": self.examples}
        return found | ({"extent": self.extent.as_json()} if self.extent else {})


@dataclass
class Report:
    """How one consumer stands. Its findings are empty where every promise was kept."""

    consumer: str
    outcomes: Counter[str] = field(default_factory=Counter)
    """What became of the records read: applied, ignored, duplicate, conflict, open, redriven, discarded, missing."""
    pending: int = 0
    """Records the consumer has not come to yet."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows compared, by effect."""
    published: int = 0
    """Events the consumer has made its service say, and dead letters, all looked for."""
    notes: list[str] = field(default_factory=list)
    """What could not be checked, and why."""
    most_examples: int = MOST_EXAMPLES
    """Of each finding."""
    _findings: dict[tuple[Fault, str], Finding] = field(default_factory=dict)

    @property
    def findings(self) -> Sequence[Finding]:
        """All that is wrong."""
        return list(self._findings.values())

    @property
    def records(self) -> int:
        """Records read."""
        return self.outcomes.total()

    def find(self, fault: Fault, where: str, example: dict[str, Any], entry: Entry | None = None) -> None:
        """Note one fault; `entry`: of this record."""
        finding = self._findings.setdefault((fault, where), Finding(fault, where))
        if entry is not None:
            finding.extent = finding.extent or Extent()
            finding.extent.take(entry)
        finding.count += 1
        if len(finding.examples) < (MOST_GONE if fault is Fault.GONE else self.most_examples):
            finding.examples.append(example)

    def count(self, fault: Fault) -> int:
        """How often a fault was found, wherever."""
        return sum(finding.count for finding in self.findings if finding.fault is fault)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
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
