"""Who has the last word on a thing whose fields several events change, when an old one comes late."""

from collections.abc import Set
from typing import TypeAlias

from touchpoint.contracts.base import Event

Told: TypeAlias = dict[str, list[int]]
"""Of each field the partition and offset of the event that had the last word on it; it is kept with the thing."""


def last_words(told: Told, event: Event, fields: Set[str]) -> list[str]:
    """Those of `fields` that the event gives and no later event gave; notes in `told` that it did.

    The live stream comes in log order, a dead letter that is redriven or a gap that is filled comes late: this way both
    end in the same state. Offsets of two partitions cannot be compared: there whoever is applied last is heard.
    """
    meta = event.meta
    place = [meta.partition, meta.offset]
    heard = [name for name in event.model_fields_set & fields if not _is_later(told.get(name), place)]
    told.update(dict.fromkeys(heard, place))
    return heard


def _is_later(known: list[int] | None, place: list[int]) -> bool:
    return known is not None and known[0] == place[0] and known[1] > place[1]
