"""The status of each event, from the consumers' answers."""

from collections.abc import Sequence
from uuid import UUID

from gateway.statuses.schemas import ConsumerStatus, Status
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.http.status import ConsumerAnswer, EventFound

Place = tuple[str, int, int]
"""Topic, partition and offset."""


def evidence(answers: Sequence[ConsumerAnswer | None], event_id: UUID) -> list[EventFound]:
    """What the consumers know about an event."""
    return [answer.events[event_id] for answer in answers if answer and event_id in answer.events]


def all_known(answers: Sequence[ConsumerAnswer | None], ids: Sequence[UUID]) -> bool:
    """Whether at least one consumer has seen each event."""
    return all(evidence(answers, event_id) for event_id in ids)


def have_read(answers: Sequence[ConsumerAnswer | None], ends: dict[int, int]) -> bool:
    """Whether every consumer has read the log up to these ends."""
    return all(
        answer is not None
        and all(answer.positions.get(TOUCHPOINTS, {}).get(partition, 0) >= end for partition, end in ends.items())
        for answer in answers
    )


def judge(services: Sequence[str], answers: Sequence[ConsumerAnswer | None], event_id: UUID) -> list[ConsumerStatus]:
    """An event's status in each consumer. Its acceptance, type and place are known as soon as any consumer has it.

    A consumer that does not handle the type ignores it; one that has read past its place without it has missed it.
    """
    known = evidence(answers, event_id)
    kind = next((each.type for each in known if each.type), None)
    place = next((each.place for each in known if each.place), None)
    statuses = list[ConsumerStatus]()
    for service, answer in zip(services, answers, strict=True):
        own = answer.events.get(event_id) if answer else None
        status = Status.UNKNOWN
        if own is not None:
            status = Status(own.status)
        elif answer is not None and known:
            status = _not_seen(answer, kind, place)
        statuses.append(
            ConsumerStatus(
                consumer=answer.consumer if answer else service,
                status=status,
                conflicting=own is not None and own.conflicting,
            )
        )
    return statuses


def _not_seen(answer: ConsumerAnswer, kind: str | None, place: Place | None) -> Status:
    """The status of an accepted event in a consumer that does not have it."""
    if kind is not None and kind not in answer.handles:
        return Status.IGNORED
    return Status.MISSING if place is not None and _has_passed(answer, place) else Status.PENDING


def _has_passed(answer: ConsumerAnswer, place: Place) -> bool:
    """Whether the consumer has read past a place, and its inbox still covers that offset."""
    topic, partition, offset = place
    passed = answer.positions.get(topic, {}).get(partition, 0)
    return answer.known_from.get(topic, {}).get(partition, 0) <= offset < passed
