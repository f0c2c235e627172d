"""The order of events about one object, the same whatever order they are read in.

Events are ordered by time, then by time of recording, then by identity. All three are attributes of the event, so every
reader and every replay arrives at the same state.
"""

from collections.abc import Set
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from touchpoint.contracts.base import Meta, PartialUpdate

CLOCKS_DIFFER = timedelta(minutes=5)
"""How far the clocks of two systems may differ. The gateway accepts events dated up to this far in the future. A
ticket's events dated up to this long before its opening still belong to it; their durations count as zero."""

Rank: TypeAlias = tuple[datetime, datetime, str]
"""Sort key of an event: of two events, the one with the greater rank is later."""

Latest: TypeAlias = dict[str, list[str]]
"""By field: the rank, as JSON, of the latest event that gave the field. It is stored with the object."""


def rank(meta: Meta) -> Rank:
    """The sort key of an event: its time, its time of recording, its identity."""
    return meta.time, meta.recorded, str(meta.identity)


def newest_fields(latest: Latest, event: PartialUpdate, fields: Set[str]) -> list[str]:
    """Those of `fields` that the event gives and no later event has given; records the event for them in `latest`."""
    at, recorded, identity = rank(event.meta)
    place = [_sortable(at), _sortable(recorded), identity]
    newest = [name for name in event.given & fields if latest.get(name, []) <= place]
    latest.update(dict.fromkeys(newest, place))
    return newest


def _sortable(moment: datetime) -> str:
    """A time as text that sorts chronologically: UTC with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
