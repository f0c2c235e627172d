"""Slots: the limit of concurrent requests to a service, in all and by tenant, and their release."""

import asyncio
import contextlib

import pytest

from gateway.queries import slots
from gateway.queries.slots import Slots
from touchpoint.http.errors import ProblemError


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(slots, "WAIT_SECONDS", 0.01)


async def refused(places: Slots, tenant: str) -> tuple[int, str]:
    with pytest.raises(ProblemError) as caught:
        await held(places, tenant)
    assert caught.value.headers == {"Retry-After": "1"}
    return caught.value.problem.status, caught.value.problem.type.removeprefix("urn:touchpoint:problem:")


async def held(places: Slots, tenant: str) -> contextlib.AsyncExitStack:
    stack = contextlib.AsyncExitStack()
    await stack.enter_async_context(places.taken(tenant))
    return stack


async def test_a_tenant_gets_at_most_half_of_the_slots():
    places = Slots("feedback-svc", 4)
    mine = [await held(places, "acme") for _ in range(2)]
    assert await refused(places, "acme") == (429, "too-many-questions")
    theirs = [await held(places, "globex") for _ in range(2)]
    assert await refused(places, "initech") == (503, "service-busy")
    await mine[0].aclose()
    assert await refused(places, "globex") == (429, "too-many-questions")
    for stack in (await held(places, "initech"), mine[1], *theirs):
        await stack.aclose()
    assert [await held(places, tenant) for tenant in ("acme", "acme", "globex", "globex")]


async def test_a_waiting_request_gets_the_slot_that_becomes_free(monkeypatch):
    monkeypatch.setattr(slots, "WAIT_SECONDS", 20)
    places = Slots("feedback-svc", 2)
    first = await held(places, "acme")
    second = asyncio.create_task(held(places, "acme"))
    await asyncio.sleep(0)
    assert not second.done()
    await first.aclose()
    await (await second).aclose()


async def test_a_request_that_fails_or_is_cancelled_releases_its_slot():
    places = Slots("feedback-svc", 2)
    with pytest.raises(RuntimeError):
        async with places.taken("acme"):
            raise RuntimeError
    waiting = await held(places, "acme")
    given_up = asyncio.create_task(held(places, "acme"))
    await asyncio.sleep(0)
    given_up.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await given_up
    await waiting.aclose()
    await (await held(places, "acme")).aclose()


async def test_tenants_without_a_request_are_removed_from_memory():
    places = Slots("feedback-svc", 2)
    for number in range(100):
        await (await held(places, f"tenant-{number}")).aclose()
    assert len(places._tenants) <= 1
