"""The log as replays read it: by a client that is in no group, so that the live one's offsets are left alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from touchpoint.db.offsets import Place
from touchpoint.settings import KafkaSettings

STOP_SECONDS = 5.0
"""How long leaving may take; with Kafka gone aiokafka may wait for ever."""


@asynccontextmanager
async def group_less(settings: KafkaSettings) -> AsyncIterator[AIOKafkaConsumer]:
    """A client to assign partitions to. Raises Kafka's own errors."""
    kafka = AIOKafkaConsumer(**settings.client_options(), enable_auto_commit=False, auto_offset_reset="none")
    try:
        await kafka.start()
        yield kafka
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(kafka.stop(), STOP_SECONDS)


def partition(settings: KafkaSettings, place: Place) -> TopicPartition:
    """A partition as Kafka names it."""
    return TopicPartition(settings.topic_prefix + place[0], place[1])
