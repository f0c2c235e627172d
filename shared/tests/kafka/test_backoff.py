"""Pauses after errors grow, are bounded, and are reset by a success."""

import asyncio

from touchpoint.kafka.backoff import Backoff


def test_pauses_grow_and_stay_below_their_bound_whatever_the_jitter():
    backoff = Backoff()
    pauses = [backoff.failed() for _ in range(50)]
    assert 0.3 < pauses[0] < 0.7
    assert pauses[1] < pauses[3] < pauses[5]
    assert max(pauses) <= 30 * 1.25


def test_a_success_ends_the_pause_and_resets_it_to_the_shortest():
    backoff = Backoff()
    for _ in range(8):
        backoff.failed()
    assert backoff.active
    backoff.succeeded()
    assert not backoff.active
    assert backoff.failed() < 0.7


async def test_a_stop_event_ends_the_wait():
    backoff, stop = Backoff(), asyncio.Event()
    for _ in range(10):
        backoff.failed()
    waiting = asyncio.create_task(backoff.wait(stop))
    stop.set()
    async with asyncio.timeout(5):
        await waiting
