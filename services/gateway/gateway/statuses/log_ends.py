"""The end of the log of touchpoints: consumers that have read up to it know every accepted event."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from gateway.statuses.telemetry import OFFSETS_UNREACHABLE
from touchpoint.base.settings import KafkaSettings
from touchpoint.base.telemetry import log
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.kafka.leaving import leave

READ_SECONDS = 3


class LogEnds:
    """Reads the end offsets from Kafka by a consumer without a group, which connects at the first `read`."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._topic = settings.topic_prefix + TOUCHPOINTS
        self._consumer: AIOKafkaConsumer | None = None
        self._connecting = asyncio.Lock()

    async def read(self) -> dict[int, int] | None:
        """By partition, the offset of the next record; None when Kafka does not answer."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                consumer = await self._connected()
                partitions = [TopicPartition(self._topic, p) for p in range(self._settings.partitions)]
                ends = await consumer.end_offsets(partitions)
        except (KafkaError, OSError, TimeoutError) as error:
            log().warning(OFFSETS_UNREACHABLE, error=type(error).__name__)
            await self.close()
            return None
        return {place.partition: end for place, end in ends.items()}

    async def close(self) -> None:
        """Disconnect; the next `read` connects again."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await leave(consumer)

    async def _connected(self) -> AIOKafkaConsumer:
        async with self._connecting:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(
                    **self._settings.client_options(), client_id="gateway status", enable_auto_commit=False
                )
                try:
                    await consumer.start()
                except BaseException:
                    await leave(consumer)
                    raise
                self._consumer = consumer
            return self._consumer
