"""The required settings of topics: `migrate` creates topics with them; processes and `touchpoint doctor` check them.

Some deviations stop the work that depends on the setting: order, timestamps, or whether Kafka accepts a record.
Others are only reported. The table is in docs/operations.md.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from touchpoint.base.errors import UsageError
from touchpoint.base.settings import KafkaSettings
from touchpoint.kafka import metadata
from touchpoint.kafka.metadata import Topic

MAX_MESSAGE_BYTES = 1024 * 1024
"""Large enough for the largest event the gateway accepts (256 KiB), its headers, and a producer's batch around it."""

_SETTLE_SECONDS = 30
PAGE = "docs/runbooks/topic-changed.md"

PARTITIONS, REPLICAS = "partitions", "replication factor"


@dataclass(frozen=True, slots=True)
class Deviation:
    """A wrong topic setting. `stops`: whether work stops; `mend`: the command that fixes it, or a page to read."""

    topic: str
    setting: str
    actual: str
    expected: str
    stops: bool
    mend: str

    def __str__(self) -> str:
        """The deviation and the fix, in one line."""
        return f"topic {self.topic} has {self.setting}={self.actual}, not {self.expected}: {self.mend}"


class Rule(NamedTuple):
    """The rule for a setting: its expected value, and whether (actual, expected) is `wrong`, and if so `stops` work."""

    expected: Callable[[KafkaSettings], str]
    wrong: Callable[[str, str], bool] = lambda actual, expected: actual != expected
    stops: Callable[[str, str], bool] = lambda *_: False


def _always(*_: str) -> bool:
    return True


def _below(actual: str, expected: str) -> bool:
    return int(actual) < int(expected)


RULES: Mapping[str, Rule] = {
    PARTITIONS: Rule(lambda settings: str(settings.partitions), stops=_always),
    "cleanup.policy": Rule(lambda _: "delete", stops=_always),
    "message.timestamp.type": Rule(lambda _: "LogAppendTime", stops=_always),
    "max.message.bytes": Rule(lambda _: str(MAX_MESSAGE_BYTES), stops=_below),
    "retention.ms": Rule(lambda _: "-1"),
    "retention.bytes": Rule(lambda _: "-1"),
    "min.insync.replicas": Rule(lambda settings: str(settings.min_insync_replicas), _below),
    REPLICAS: Rule(lambda settings: str(settings.replication_factor), _below),
}
CONFIGS = [name for name in RULES if name not in (PARTITIONS, REPLICAS)]
"""The settings that are topic configurations in Kafka."""


def configs(settings: KafkaSettings) -> dict[str, str]:
    """The configuration with which topics are created."""
    return {name: RULES[name].expected(settings) for name in CONFIGS}


async def deviations(client: AIOKafkaAdminClient, settings: KafkaSettings, names: Sequence[str]) -> list[Deviation]:
    """The deviations of topics (named as in Kafka, with prefix). Raises UsageError, or Kafka's own errors."""
    topics = (await metadata.describe(client._client, names)).topics
    described = await _configs(client, [name for name in names if name in topics])
    wrong = []
    for name in names:
        if name not in topics:
            wrong.append(Deviation(name, "existence", "none", "one", True, f"see {PAGE}"))
            continue
        for setting, value in (described[name] | _shape(topics[name])).items():
            rule, expected = RULES[setting], RULES[setting].expected(settings)
            if rule.wrong(value, expected):
                mend = _mend(settings, name, setting, expected)
                wrong.append(Deviation(name, setting, value, expected, rule.stops(value, expected), mend))
    return wrong


def _shape(topic: Topic) -> dict[str, str]:
    replicas = min((partition.replicas for partition in topic.partitions.values()), default=0)
    return {PARTITIONS: str(len(topic.partitions)), REPLICAS: str(replicas)}


def _mend(settings: KafkaSettings, topic: str, setting: str, expected: str) -> str:
    if setting in (PARTITIONS, REPLICAS):
        return f"see {PAGE}"
    return (
        f"kafka-configs.sh --bootstrap-server {settings.bootstrap_servers} --alter --entity-type topics "
        f"--entity-name {topic} --add-config {setting}={expected}"
    )


async def _configs(client: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The configurations of topics. Retries while a broker does not know a new topic yet."""
    wanted: dict[str, str | None] = dict.fromkeys(CONFIGS)
    async with asyncio.timeout(_SETTLE_SECONDS):
        while True:
            answers = await client.describe_configs([topic_resource(name, wanted) for name in names])
            resources = [resource for answer in answers for resource in answer.resources]
            if all(code != metadata.UNKNOWN_TOPIC for code, *_ in resources):
                break
            await asyncio.sleep(0.05)
    for code, message, _, name, _ in resources:
        if code:
            raise UsageError(
                f"Kafka does not return the settings of topic {name}: {message or for_code(code).__name__}"
            )
    return {name: {entry[0]: entry[1] for entry in entries} for _, _, _, name, entries in resources}


def topic_resource(name: str, values: Mapping[str, str | None]) -> ConfigResource:
    """A topic's settings in the admin client's format: values to set, or None for those to read."""
    return ConfigResource(ConfigResourceType.TOPIC, name, configs=dict(values))
