"""Requests topic metadata from Kafka with topic ids and leader epochs, which aiokafka's own request lacks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import ClassVar
from uuid import UUID

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

UNKNOWN_TOPIC = 3


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition. `leader` is a broker id, -1 while there is none. `epoch` grows with every leader election."""

    leader: int
    epoch: int
    replicas: int
    in_sync: int


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `id` identifies it: a topic that is deleted and created again gets another id."""

    id: UUID
    partitions: Mapping[int, Partition]


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster's id, and those of the requested topics that exist, by name."""

    id: str
    topics: Mapping[str, Topic]

    def place(self, tp: TopicPartition) -> tuple[UUID, Partition]:
        """The topic's id and the partition. Raises UnknownTopicOrPartitionError."""
        topic = self.topics.get(tp.topic)
        if topic is None or tp.partition not in topic.partitions:
            raise UnknownTopicOrPartitionError(tp.topic)
        return topic.id, topic.partitions[tp.partition]


async def describe(client: AIOKafkaClient, names: Sequence[str]) -> Cluster:
    """Request the metadata from any broker. Raises Kafka's own errors, also for a topic this user may not describe."""
    answer = (await client.send(client.get_random_node(), _MetadataRequest(names))).to_object()
    topics: dict[str, Topic] = {}
    for topic in answer["topics"]:
        if topic["error_code"] == UNKNOWN_TOPIC:
            continue
        if topic["error_code"]:
            raise for_code(topic["error_code"])(topic["name"])
        topics[topic["name"]] = Topic(
            topic["id"],
            {
                part["partition"]: Partition(
                    part["leader"], part["leader_epoch"], len(part["replicas"]), len(part["in_sync"])
                )
                for part in topic["partitions"]
            },
        )
    return Cluster(answer["cluster_id"], topics)


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]  # aiokafka has no types
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


class _ResponseV10(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 3
    API_VERSION = 10
    SCHEMA: ClassVar[Schema] = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("in_sync", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _RequestV10(RequestStruct):  # type: ignore[misc]  # aiokafka has no types
    """Supported by Kafka 2.8 and newer."""

    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _ResponseV10
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_RequestV10]):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 3

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_RequestV10]) -> _RequestV10:
        topics: list[tuple[UUID, str, dict[int, bytes]]] = [(UUID(int=0), name, {}) for name in self._names]
        return request_struct_class(topics, False, False, False, {})
