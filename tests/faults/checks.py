"""Checks after a fault: whether the system works again, and which events are lost or duplicated."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import count
from uuid import UUID

import httpx

import escalation_svc.verify
import feedback_svc.verify
import metrics_svc.verify
from touchpoint.base.errors import UsageError
from touchpoint.contracts.base import identity
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.kafka import log as logs
from touchpoint.testing import eventually
from touchpoint.testing.system import READS, System
from touchpoint.verify.report import Report
from touchpoint.verify.run import verify

from .faults import Stage, a_score
from .load import SOURCE

TENANT = "acme"
PROBES = f"{SOURCE}/probes"
RECOVERY_SECONDS = 180
SUBJECTS = [package.verify.subject() for package in (escalation_svc, feedback_svc, metrics_svc)]

_probes = count()


async def recovered(stage: Stage) -> float:
    """Send an event; returns the seconds from the damage until every consumer has applied the event."""
    event = a_score(f"probe-{next(_probes)}-{stage.chance.random()}", datetime.now(UTC), source=PROBES)
    async with httpx.AsyncClient(base_url=stage.system.url, timeout=10) as client:

        async def taken() -> bool:
            try:
                answer = await client.post("/v1/events", json=event, headers=stage.headers)
            except httpx.TransportError:
                return False
            if answer.status_code not in (429, 503):
                answer.raise_for_status()
            return answer.status_code == 202

        await eventually(taken, RECOVERY_SECONDS)
    probe = identity(TENANT, PROBES, str(event["id"]))
    await eventually(lambda: _is_applied(stage, probe), RECOVERY_SECONDS)
    return time.monotonic() - stage.struck


async def _is_applied(stage: Stage, probe: UUID) -> bool:
    for service in READS:
        try:
            async with stage.connected(stage.system.databases[service]) as connection:
                if not await connection.fetchval("SELECT count(*) FROM inbox WHERE event_id = $1", probe):
                    return False
        except UsageError:  # the server has not started yet
            return False
    return True


async def verified(stage: Stage, since: datetime | None = None) -> list[Report]:
    """The reports of `touchpoint verify` on all consumers."""
    return [
        await verify(subject, stage.system.dsn(subject.consumer), stage.system.kafka, since=since)
        for subject in SUBJECTS
    ]


async def not_in_the_log(system: System, accepted: Iterable[str]) -> set[str]:
    """The ids of accepted events of the load that are not in Kafka."""
    missing, topics = set(accepted), [TOUCHPOINTS]
    async with logs.connected(system.kafka, topics) as log:
        begins, ends = await log.begins(topics), await log.ends(topics)
        async for records in log.read({place: (begin, ends[place]) for place, begin in begins.items()}):
            headers = [dict(record.headers) for record in records]
            missing -= {each["ce_id"].decode() for each in headers if each.get("ce_source") == SOURCE.encode()}
    return missing
