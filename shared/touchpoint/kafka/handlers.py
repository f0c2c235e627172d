"""The registry through which a service says what it does with events; it contains no Kafka."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.contracts.base import Event
from touchpoint.db.spans import handling


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler works with: the batch's transaction, which the consumer commits."""

    session: AsyncSession


Handler = Callable[[list[Any], Context], Awaitable[None]]
Prepare = Callable[[Any], Any]
"""Makes of an event what its handler works with, such as a row; None when there is nothing to do."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A handler, the types whose events it gets, as one list in log order, and what it gets of each."""

    handle: Handler
    types: frozenset[str]
    prepare: Prepare | None


@dataclass(slots=True)
class Handlers:
    """Which events a service handles.

    A handler declares the set of types that influence one another and gets them as one list in log order, each event
    once. Handlers are independent projections: they tolerate a parent they have not seen, take time and ids from the
    events (never from a clock or a random source), and end in one of three ways: return, raise TransientError, raise
    PermanentError.
    """

    registrations: list[Registration] = field(default_factory=list)
    events: dict[str, type[Event]] = field(default_factory=dict)

    @classmethod
    def gather(cls, *rooms: "Handlers") -> "Handlers":
        """The handlers of all rooms of a service."""
        registrations = [registration for room in rooms for registration in room.registrations]
        return cls(registrations, {kind: event for room in rooms for kind, event in room.events.items()})

    def on(self, *events: type[Event], prepare: Prepare | None = None) -> Callable[[Handler], Handler]:
        """Register a handler for these contracts.

        What depends on nothing but the event belongs into `prepare`: that happens while the database works on the batch
        before, and the handler gets what it made instead of the event.
        """

        def register(handle: Handler) -> Handler:
            self.events.update({event.type: event for event in events})
            types = frozenset(event.type for event in events)
            self.registrations.append(Registration(handle, types, prepare))
            return handle

        return register

    @property
    def topics(self) -> list[str]:
        """The topics a consumer of these handlers reads."""
        return sorted({event.topic for event in self.events.values()})

    @property
    def packages(self) -> set[str]:
        """The packages whose code handles the events."""
        return {registration.handle.__module__.partition(".")[0] for registration in self.registrations}

    def prepare(self, event: Event) -> list[Any]:
        """What each handler is to get of an event, None for those that get nothing of it."""
        kind = event.type
        return [
            None if kind not in each.types else event if each.prepare is None else each.prepare(event)
            for each in self.registrations
        ]

    async def handle(self, prepared: Sequence[list[Any]], ctx: Context) -> None:
        """Give each handler what was prepared for it of a batch's events, in the order they came."""
        for index, registration in enumerate(self.registrations):
            mine = [found for each in prepared if (found := each[index]) is not None]
            if mine:
                with handling(index, registration.handle.__name__):
                    await registration.handle(mine, ctx)
