"""Starts a gateway process with API keys, and builds a day's events as HTTP requests to it."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from bench.load import request
from bench.payloads import TENANTS, Payload, day
from touchpoint.testing.system import System

PATH = "/v1/events"
BATCH = 500
"""Events per request, and records per group of the bare producer."""
LANES = 4
"""Connections that send batches, and groups that the bare producer sends concurrently."""


async def opened(system: System) -> dict[str, str]:
    """Start a gateway; returns an API key for each tenant."""
    system.start_part(("gateway", "api"))
    await system.ready([("gateway", "api")])
    return {tenant: await system.create_key(tenant) for tenant in TENANTS}


def past(count: int, days_ago: float = 1, seed: int = 4) -> list[Payload]:
    """`count` events of the 24 hours that begin `days_ago` days ago; the same seed gives the same ids."""
    return list(day(count, datetime.now(UTC) - timedelta(days=days_ago), seed=seed))


def single(payload: Payload, keys: Mapping[str, str]) -> bytes:
    """The bytes of a request with one event."""
    return request("POST", PATH, keys[payload.tenant], "application/cloudevents+json", payload.body)


def batch(group: Iterable[Payload], keys: Mapping[str, str]) -> bytes:
    """The bytes of a request with several events of one tenant."""
    payloads = list(group)
    body = b"[%s]" % b",".join(payload.body for payload in payloads)
    return request("POST", PATH, keys[payloads[0].tenant], "application/cloudevents-batch+json", body)


def groups(payloads: Iterable[Payload]) -> list[list[Payload]]:
    """Batches of `BATCH` events of one tenant each, in the order in which they fill, then smaller ones of the rest."""
    filling: dict[str, list[Payload]] = {tenant: [] for tenant in TENANTS}
    full = []
    for payload in payloads:
        mine = filling[payload.tenant]
        mine.append(payload)
        if len(mine) == BATCH:
            full.append(mine)
            filling[payload.tenant] = []
    return full + [mine for mine in filling.values() if mine]
