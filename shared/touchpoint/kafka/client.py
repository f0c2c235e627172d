"""aiokafka's consumer as all readers use it: committed records only, and tolerant of malformed records."""

from collections.abc import Collection
from copy import copy
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import READ_UNCOMMITTED

from touchpoint.base.settings import KafkaSettings
from touchpoint.kafka import fetched

fetched.install()


class LogConsumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
    """A consumer with isolation level read_committed and without auto-commit.

    It reads no records of aborted transactions, and none from the start of an open transaction on. So a partition has
    two ends: `end_offsets` is Kafka's high watermark, the offset of the next record to be written; `readable_ends` is
    Kafka's last stable offset, which differs while a transaction is open: it is then that transaction's first offset.
    """

    def __init__(self, settings: KafkaSettings, **options: Any) -> None:
        """`options`: passed to aiokafka."""
        super().__init__(
            **settings.client_options(), **options, enable_auto_commit=False, isolation_level="read_committed"
        )

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The high watermark of each partition."""
        asking = copy(self._fetcher)  # shares the connections; aiokafka has one isolation level per fetcher
        asking._isolation_level = READ_UNCOMMITTED
        ends: dict[TopicPartition, int] = await asking.end_offsets(list(partitions), self._request_timeout_ms)
        return ends

    async def readable_ends(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The last stable offset of each partition."""
        ends: dict[TopicPartition, int] = await super().end_offsets(list(partitions))
        return ends
