"""Turns: long work lets others in, and more of them while they have something to do."""

import asyncio
import time

from touchpoint.base.turns import TURN_SECONDS, TURNS, UNUSED_SECONDS, Turns
from touchpoint.testing import others


def keep_busy(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def test_a_piece_of_work_is_over_after_its_time():
    turns = Turns()
    keep_busy(TURN_SECONDS)
    assert turns.over()


async def test_others_who_have_something_to_do_get_all_turns():
    steps = 0

    async def work() -> None:
        nonlocal steps
        while True:
            keep_busy(2 * UNUSED_SECONDS)
            steps += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(work())
    await Turns().give()
    task.cancel()
    assert steps == TURNS


async def test_others_get_one_turn_at_least():
    async with others() as counted:
        await Turns().give()
    assert counted["turns"] >= 1
