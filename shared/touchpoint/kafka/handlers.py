"""The registry of a service's event handlers. It is independent of Kafka."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.contracts.base import Event
from touchpoint.db.spans import handling


@dataclass(frozen=True, slots=True)
class Context:
    """Passed to a handler: the session with the batch's transaction, which the consumer commits."""

    session: AsyncSession


Handler = Callable[[list[Any], Context], Awaitable[None]]
Prepare = Callable[[Any], Any]
"""Converts an event to its handler's input, such as a row; None if the handler has nothing to do."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A handler, the event types it receives, and how its input is made from an event (None: the event itself)."""

    handle: Handler
    types: frozenset[str]
    prepare: Prepare | None


@dataclass(slots=True)
class Handlers:
    """The event handlers of a service.

    A handler declares the set of event types that influence one another. It gets their events as one list in log
    order, each event once. Handlers are independent projections: they tolerate events whose parent they have not seen,
    and take time and ids from the events, never from a clock or a random source. They return, or raise TransientError
    or PermanentError.
    """

    registrations: list[Registration] = field(default_factory=list)
    events: dict[str, type[Event]] = field(default_factory=dict)

    @classmethod
    def gather(cls, *parts: "Handlers") -> "Handlers":
        """The handlers of all packages of a service, combined."""
        registrations = [registration for part in parts for registration in part.registrations]
        return cls(registrations, {kind: event for part in parts for kind, event in part.events.items()})

    def on(self, *events: type[Event], prepare: Prepare | None = None) -> Callable[[Handler], Handler]:
        """Register a handler for these event types.

        Work that depends on the event alone belongs into `prepare`: it runs while the database works on the previous
        batch, and the handler gets its result instead of the event.
        """

        def register(handle: Handler) -> Handler:
            self.events.update({event.type: event for event in events})
            types = frozenset(event.type for event in events)
            self.registrations.append(Registration(handle, types, prepare))
            return handle

        return register

    @property
    def topics(self) -> list[str]:
        """The topics that a consumer with these handlers reads."""
        return sorted({event.topic for event in self.events.values()})

    @property
    def packages(self) -> set[str]:
        """The top-level packages that contain the handlers."""
        return {registration.handle.__module__.partition(".")[0] for registration in self.registrations}

    def prepare(self, event: Event) -> list[Any]:
        """Each handler's input made from an event; None for handlers that do not handle it."""
        kind = event.type
        return [
            None if kind not in each.types else event if each.prepare is None else each.prepare(event)
            for each in self.registrations
        ]

    async def handle(self, prepared: Sequence[list[Any]], ctx: Context) -> None:
        """Call each handler with its inputs prepared from a batch's events, in log order."""
        for index, registration in enumerate(self.registrations):
            inputs = [each[index] for each in prepared if each[index] is not None]
            if inputs:
                with handling(index, registration.handle.__name__):
                    await registration.handle(inputs, ctx)
