"""Long work yields to other tasks: one loop iteration, or more while those tasks have work."""

import asyncio
import time

from touchpoint.base.time_slice import IDLE_SECONDS, SLICE_SECONDS, YIELDS, TimeSlice
from touchpoint.testing import others


def keep_busy(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def test_a_time_slice_expires_after_its_length():
    time_slice = TimeSlice()
    keep_busy(SLICE_SECONDS)
    assert time_slice.expired()


async def test_tasks_that_have_work_get_all_loop_iterations_of_a_yield():
    steps = 0

    async def work() -> None:
        nonlocal steps
        while True:
            keep_busy(2 * IDLE_SECONDS)
            steps += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(work())
    await TimeSlice().pause()
    task.cancel()
    assert steps == YIELDS


async def test_other_tasks_get_at_least_one_loop_iteration():
    async with others() as counted:
        await TimeSlice().pause()
    assert counted["iterations"] >= 1
