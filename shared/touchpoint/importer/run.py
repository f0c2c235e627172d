"""The import itself: one batch is on its way while the next is made, and there is never more than that.

Batches leave in the file's order, one at a time, so that nothing of a customer overtakes what came before it.
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
"""A batch leaves once it has as much."""


@dataclass(slots=True)
class Batch:
    """Events with the record each comes from, and what was refused on the way. `records` are done with it."""

    events: list[bytes] = field(default_factory=list)
    origins: list[Record] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    records: int = 0
    size: int = 0

    def add(self, record: Record, translator: Translator) -> None:
        """Append a record's events, or its refusal."""
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
        """Whether it should leave."""
        return len(self.events) >= BATCH_EVENTS or self.size >= BATCH_BYTES or len(self.rejects) >= BATCH_EVENTS


def batches(records: Iterable[Record], translator: Translator, done: int) -> Iterator[Batch]:
    """The file in batches of whole records, leaving out the first `done`.

    Where the file turns out to be broken, what came before still leaves; then UsageError is raised.
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
    """A record's events; raises RecordError when it has none because of what it holds."""
    if record.problem is not None:
        raise RecordError(record.problem)
    return translator.events(record.data)


def reject(record: Record, reason: str) -> dict[str, Any]:
    """A refused record, as the rejects file has it."""
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
    """Send everything that is not yet sent; `show` is called whenever there is progress to show.

    Raises StoppedError once `stop` is set and the batch under way is settled.
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
    """Wait for the batch under way, if any, and make durable what became of it."""
    for batch, sent in under_way:
        refused = sent.result()
        rejects = batch.rejects + [reject(batch.origins[each.index], f"gateway: {each.reason}") for each in refused]
        checkpoint.advance(batch.records, len(batch.events) - len(refused), rejects)
    under_way.clear()
