"""A sleep that ends early when an event is set, such as the one that stops the process."""

import asyncio
import contextlib


async def pause(until: asyncio.Event, seconds: float) -> None:
    """Sleep for `seconds`, or until the event `until` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until.wait()
