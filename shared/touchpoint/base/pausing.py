"""Pauses that end early when something comes, such as the word to stop."""

import asyncio
import contextlib


async def pause(until: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until.wait()
