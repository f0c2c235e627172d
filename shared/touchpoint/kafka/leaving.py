"""Stops an aiokafka consumer within a bounded time."""

import asyncio

from aiokafka import AIOKafkaConsumer

STOP_SECONDS = 5.0


async def leave(kafka: AIOKafkaConsumer) -> Exception | None:
    """Stop a client, which leaves its consumer group, within a bounded time. Returns an error, which may be ignored.

    If Kafka is down, the client's own stop() may wait for ever, or raise CancelledError although nobody cancelled it.
    """
    leaving = asyncio.create_task(kafka.stop())
    await asyncio.wait({leaving}, timeout=STOP_SECONDS)
    if leaving.cancel():
        await asyncio.wait({leaving}, timeout=1)
        return TimeoutError(f"the client did not stop within {STOP_SECONDS:g} s")
    error = None if leaving.cancelled() else leaving.exception()
    return error if isinstance(error, Exception) else None
