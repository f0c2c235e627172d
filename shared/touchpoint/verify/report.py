"""What was counted and what was found."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

MOST_EXAMPLES = 5


class Fault(StrEnum):
    """A promise that was not kept."""

    MISSING = "missing"
    """An event that was read has no effect and is no dead letter; or one of its rows is not there."""
    TWICE = "applied twice"
    """An effect is there more often than its event."""
    CHANGED = "changed"
    """A row or a sum is not what the log says."""
    UNEXPLAINED = "unexplained"
    """A row that no event of the log accounts for."""
    OUT_OF_ORDER = "out of order"
    """An event was applied after a later one of the same customer in the same topic."""
    REFUSED = "refused"
    """An event was applied that today's handlers refuse."""
    UNPUBLISHED = "unpublished"
    """What an event has made the service say, or its dead letter, is neither in its topic nor in the outbox."""


@dataclass
class Finding:
    """One kind of fault in one place (a topic, a table), how often, and a few examples."""

    fault: Fault
    where: str
    count: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)


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

    def find(self, fault: Fault, where: str, example: dict[str, Any]) -> None:
        """Note one fault."""
        finding = self._findings.setdefault((fault, where), Finding(fault, where))
        finding.count += 1
        if len(finding.examples) < self.most_examples:
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
            "findings": [asdict(finding) for finding in self.findings],
            "notes": self.notes,
        }
