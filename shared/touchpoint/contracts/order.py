"""What decides between events of one thing, in whatever order they are read.

The order is that of time, then of recording, then of the id: all three belong to the event, none to who reads it.
"""

from collections.abc import Set
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from touchpoint.contracts.base import Meta, PartialUpdate

CLOCKS_DIFFER = timedelta(minutes=5)
"""How far the clocks of two systems may differ. The gateway takes events dated this far ahead; what a ticket's events
date this far before its opening still belongs to the ticket, and took no time."""

Rank: TypeAlias = tuple[datetime, datetime, str]
"""Of two events the one with the greater rank is the later one."""

Latest: TypeAlias = dict[str, list[str]]
"""For each field the rank (as JSON can hold it) of the latest event that gave it; it is stored with the thing."""


def rank(meta: Meta) -> Rank:
    """Where an event stands among others: by time, then by recording, then by its identity."""
    return meta.time, meta.recorded, str(meta.identity)


def newest_fields(latest: Latest, event: PartialUpdate, fields: Set[str]) -> list[str]:
    """Those of `fields` that the event gives and no later event gave; `latest` then holds that this one gave them."""
    at, recorded, identity = rank(event.meta)
    place = [_sortable(at), _sortable(recorded), identity]
    newest = [name for name in event.given & fields if latest.get(name, []) <= place]
    latest.update(dict.fromkeys(newest, place))
    return newest


def _sortable(moment: datetime) -> str:
    """A time as text that sorts as the time does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
