"""aiokafka's consumer as every reader of the log needs it: what is committed, and whatever a producer wrote."""

from collections.abc import Collection
from copy import copy
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import READ_UNCOMMITTED

from touchpoint.base.settings import KafkaSettings
from touchpoint.kafka import fetched

fetched.install()


class LogConsumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
    """Reads no record of a transaction that was aborted, nor of one that is still open, nor any behind that one.

    So a partition has two ends. `end_offsets` is where the log ends (Kafka's high watermark): the offset that the next
    record gets. `readable_ends` is how far it can be read (Kafka's last stable offset): the same, unless a transaction
    is open; then it is the first offset of that transaction.
    """

    def __init__(self, settings: KafkaSettings, **options: Any) -> None:
        """`options` are aiokafka's; offsets are never committed by themselves."""
        super().__init__(
            **settings.client_options(), **options, enable_auto_commit=False, isolation_level="read_committed"
        )

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Where the log of each partition ends."""
        asking = copy(self._fetcher)  # shares its connections; aiokafka knows one isolation level a consumer
        asking._isolation_level = READ_UNCOMMITTED
        ends: dict[TopicPartition, int] = await asking.end_offsets(list(partitions), self._request_timeout_ms)
        return ends

    async def readable_ends(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """How far each partition can be read."""
        ends: dict[TopicPartition, int] = await super().end_offsets(list(partitions))
        return ends
