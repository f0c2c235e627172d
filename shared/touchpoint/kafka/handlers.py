"""The registry through which a service says what it does with events; it contains no Kafka."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.contracts.base import Event
from touchpoint.db import outbox


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler works with: the batch's transaction, which the consumer commits."""

    session: AsyncSession

    async def publish(self, *events: Event) -> None:
        """Hand events to the outbox: they leave if and only if the batch commits."""
        await outbox.publish(self.session, *events)


Handler = Callable[[list[Any], Context], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Registration:
    """A handler and the types it gets, as one list in log order."""

    handle: Handler
    types: frozenset[str]


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

    def on(self, *events: type[Event]) -> Callable[[Handler], Handler]:
        """Register a handler for these contracts."""

        def register(handle: Handler) -> Handler:
            self.events.update({event.type: event for event in events})
            self.registrations.append(Registration(handle, frozenset(event.type for event in events)))
            return handle

        return register

    @property
    def topics(self) -> list[str]:
        """The topics a consumer of these handlers reads."""
        return sorted({event.topic for event in self.events.values()})

    async def handle(self, events: Sequence[Event], ctx: Context) -> None:
        """Give each handler its events of the batch, in the order they came."""
        for registration in self.registrations:
            mine = [event for event in events if event.type in registration.types]
            if mine:
                await registration.handle(mine, ctx)
