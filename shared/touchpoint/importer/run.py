"""The import loop: one batch is being sent while the next one is translated; at most two batches are in memory.

Batches are sent in the order of the file, one at a time, so that a customer's events keep their order.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from threading import Event
from typing import Any

from touchpoint.base.errors import UsageError
from touchpoint.importer.checkpoint import Checkpoint
from touchpoint.importer.gateway import Gateway, Refusal, StoppedError
from touchpoint.importer.records import Record
from touchpoint.importer.translate import RecordError, Translator

BATCH_EVENTS = 500
BATCH_BYTES = 2 * 2**20
"""Size from which a batch is sent."""


@dataclass(slots=True)
class Batch:
    """Encoded events, the record of each (`origins`), and refused records.

    `records`: number of records of the file done once this batch is acknowledged.
    """

    events: list[bytes] = field(default_factory=list)
    origins: list[Record] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    records: int = 0
    size: int = 0

    def add(self, record: Record, translator: Translator) -> None:
        """Append a record's events, or the record to the rejects if it cannot be translated."""
        self.records += 1
        try:
            events = translated(record, translator)
        except RecordError as error:
            self.rejects.append(reject(record, str(error)))
            return
        self.events += events
        self.origins += [record] * len(events)
        self.size += sum(map(len, events))

    @property
    def is_full(self) -> bool:
        """Whether the batch should be sent."""
        return len(self.events) >= BATCH_EVENTS or self.size >= BATCH_BYTES or len(self.rejects) >= BATCH_EVENTS


def batches(records: Iterable[Record], translator: Translator, done: int) -> Iterator[Batch]:
    """Batches of whole records, without the first `done` records.

    If the file is broken at some line, the records before it are yielded first; then UsageError is raised.
    """
    batch, broken = Batch(records=done), None
    try:
        for record in islice(records, done, None):
            batch.add(record, translator)
            if batch.is_full:
                yield batch
                batch = Batch(records=batch.records)
    except UsageError as error:
        broken = error
    if batch.events or batch.rejects:
        yield batch
    if broken is not None:
        raise broken


def translated(record: Record, translator: Translator) -> list[bytes]:
    """A record's encoded events. Raises RecordError if the record cannot be read or translated."""
    if record.problem is not None:
        raise RecordError(record.problem)
    return translator.events(record.data)


def reject(record: Record, reason: str) -> dict[str, Any]:
    """The line of the rejects file for a refused record."""
    return {"line": record.line, "reason": reason, "record": record.data}


def run(
    records: Iterable[Record],
    translator: Translator,
    gateway: Gateway,
    checkpoint: Checkpoint,
    *,
    stop: Event,
    show: Callable[[], None],
) -> None:
    """Send all records after the checkpoint; `show` is called after each progress.

    When `stop` is set, the current batch is completed and StoppedError is raised.
    """
    with ThreadPoolExecutor(1, "send") as pool:
        under_way: list[tuple[Batch, Future[list[Refusal]]]] = []
        try:
            for batch in batches(records, translator, checkpoint.progress.records):
                _settle(under_way, checkpoint)
                if stop.is_set():
                    raise StoppedError
                under_way.append((batch, pool.submit(gateway.send, batch.events)))
                show()
        finally:
            _settle(under_way, checkpoint)
            show()
    checkpoint.finish()


def _settle(under_way: list[tuple[Batch, Future[list[Refusal]]]], checkpoint: Checkpoint) -> None:
    """Wait for the answer to the batch being sent, if any, and store its result in the checkpoint."""
    for batch, sent in under_way:
        refused = sent.result()
        rejects = batch.rejects + [reject(batch.origins[each.index], f"gateway: {each.reason}") for each in refused]
        checkpoint.advance(batch.records, len(batch.events) - len(refused), rejects)
    under_way.clear()
