"""Trace SQL statements: a request's directly as spans, a batch's on a tape from which each event's spans are made."""

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from typing import Any, NamedTuple

import asyncpg
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer, set_span_in_context
from sqlalchemy import event
from sqlalchemy.engine import Engine

from touchpoint.base import tracing

_CHANGE = re.compile(r"(?<!FOR )\b(INSERT INTO|UPDATE|DELETE FROM)\s+([a-z_][\w.]*)", re.IGNORECASE)
_READ = re.compile(r"\b(?:FROM|JOIN|COPY)\s+([a-z_][\w.]*)\b(?!\()", re.IGNORECASE)
"""Excludes names followed by a parenthesis, which are functions."""


class Statement(NamedTuple):
    """A statement that was executed; times in nanoseconds since 1970."""

    text: str
    started: int
    ended: int


@dataclass(slots=True)
class Step:
    """One handler's work on a batch. `number`: its index among the handlers."""

    number: int
    name: str
    started: int = field(default_factory=time.time_ns)
    ended: int = 0
    statements: list[Statement] = field(default_factory=list)


@dataclass(slots=True)
class Tape:
    """The statements of a transaction that works on many events at once.

    Each event has its own trace, and one statement may concern several events. So spans are created afterwards, when
    it is known which events a statement concerned: one in the trace of each of them.
    """

    started: int = field(default_factory=time.time_ns)
    statements: list[Statement] = field(default_factory=list)
    """Statements outside of handlers: BEGIN, claims, offsets, COMMIT."""
    steps: list[Step] = field(default_factory=list)
    step: Step | None = None

    def note(self, statement: Statement) -> None:
        """Add a statement to the current step, or to the tape if no handler is running."""
        (self.step or self).statements.append(statement)


_TAPE: ContextVar[Tape | None] = ContextVar("tape", default=None)


@contextmanager
def taping() -> Iterator[Tape | None]:
    """Record the statements of this task on a tape; yields None while tracing is off."""
    if tracing.tracer() is None:
        yield None
        return
    tape = Tape()
    token = _TAPE.set(tape)
    try:
        yield tape
    finally:
        _TAPE.reset(token)


@contextmanager
def handling(number: int, name: str) -> Iterator[None]:
    """Attribute the statements executed within the block to a handler."""
    tape = _TAPE.get()
    if tape is None:
        yield
        return
    tape.step = Step(number, name)
    tape.steps.append(tape.step)
    try:
        yield
    finally:
        tape.step.ended = time.time_ns()
        tape.step = None


def tell_each(tape: Tape | None, name: str, traceparents: Iterable[str | None]) -> None:
    """Create a span named `name`, with a child per statement of the tape, in each of these traces that is recorded."""
    tracer, ended = tracing.tracer(), time.time_ns()
    if tape is None or tracer is None:
        return
    for traceparent in filter(tracing.is_sampled, traceparents):
        span = tracer.start_span(name, tracing.within(traceparent), start_time=tape.started)
        context = set_span_in_context(span)
        for statement in tape.statements:
            tell(tracer, statement, context)
        span.end(ended)


def tell(tracer: Tracer, statement: Statement, context: Context | None = None) -> None:
    """Create the span of a statement. Its text contains no values, as these are parameters."""
    operation, table = _summary(statement.text)
    attributes = {"db.system.name": "postgresql", "db.operation.name": operation, "db.query.text": statement.text}
    if table is not None:
        attributes["db.collection.name"] = table
    span = tracer.start_span(
        f"{operation} {table}" if table else operation,
        context,
        SpanKind.CLIENT,
        attributes,
        start_time=statement.started,
    )
    span.end(statement.ended)


def tell_step(tracer: Tracer, step: Step, context: Context) -> None:
    """Create the span of a handler, with a child per statement."""
    span = tracer.start_span(step.name, context, start_time=step.started)
    within = set_span_in_context(span, context)
    for statement in step.statements:
        tell(tracer, statement, within)
    span.end(step.ended)


@lru_cache(1000)
def _summary(text: str) -> tuple[str, str | None]:
    """The operation and the main table of a statement."""
    if change := _CHANGE.search(text):
        return change[1].split()[0].upper(), change[2]
    word, read = re.search(r"\w+", text), _READ.search(text)
    return word.group().upper() if word else "?", read and read[1]


def _note(text: str, started: int) -> None:
    statement = Statement(text, started, time.time_ns())
    tape, tracer = _TAPE.get(), tracing.tracer()
    if tape is not None:
        tape.note(statement)
    elif tracer is not None and tracing.is_recording():
        tell(tracer, statement)


_Run = Callable[..., Awaitable[Any]]


def _noted(run: _Run, prefix: str = "") -> _Run:
    @wraps(run)
    async def noting(self: asyncpg.Connection, text: str, *args: Any, **options: Any) -> Any:
        started = time.time_ns()
        try:
            return await run(self, text, *args, **options)
        finally:
            _note(prefix + text, started)

    return noting


class Connection(asyncpg.Connection):  # type: ignore[misc] # asyncpg has no types
    """A connection to PostgreSQL that records its statements."""

    execute = _noted(asyncpg.Connection.execute)
    executemany = _noted(asyncpg.Connection.executemany)
    fetch = _noted(asyncpg.Connection.fetch)
    fetchrow = _noted(asyncpg.Connection.fetchrow)
    fetchval = _noted(asyncpg.Connection.fetchval)
    copy_records_to_table = _noted(asyncpg.Connection.copy_records_to_table, "COPY ")


def watch(engine: Engine) -> None:
    """Record SQLAlchemy's statements, which bypass the methods of `Connection` unless they have many rows."""

    @event.listens_for(engine, "before_cursor_execute")
    def begin(_: object, __: object, text: str, ___: object, context: Any, many: bool) -> None:
        context.touchpoint_started = time.time_ns()

    @event.listens_for(engine, "after_cursor_execute")
    def end(_: object, __: object, text: str, ___: object, context: Any, many: bool) -> None:
        if not many:
            _note(text, context.touchpoint_started)
