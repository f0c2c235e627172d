"""How a client of Kafka is stopped."""

import asyncio

from aiokafka import AIOKafkaConsumer

STOP_SECONDS = 5.0


async def leave(kafka: AIOKafkaConsumer) -> Exception | None:
    """Stop a client within a bound, and with it leave its group; answers what went wrong meanwhile, which hurts nobody.

    With Kafka gone its own stop() may wait for ever; it may also end as if cancelled, which nobody has done.
    """
    leaving = asyncio.create_task(kafka.stop())
    await asyncio.wait({leaving}, timeout=STOP_SECONDS)
    if leaving.cancel():
        await asyncio.wait({leaving}, timeout=1)
        return TimeoutError(f"not within {STOP_SECONDS:g} s")
    error = None if leaving.cancelled() else leaving.exception()
    return error if isinstance(error, Exception) else None
