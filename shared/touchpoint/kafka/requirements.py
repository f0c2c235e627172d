"""What topics must be, declared once: `migrate` makes them so, processes and `touchpoint doctor` compare them again.

Some deviations stop the work that rests on the setting: order, clocks, or whether Kafka takes a record at all. Others
are only reported. The table is in docs/operations.md.
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
"""Room for the largest event the gateway takes (256 KiB), its headers, and a producer's batch around it."""

_SETTLE_SECONDS = 30
PAGE = "docs/runbooks/topic-changed.md"

PARTITIONS, REPLICAS = "partitions", "replication factor"


@dataclass(frozen=True, slots=True)
class Deviation:
    """A setting of a topic that is not what it must be. `mend` is the command that mends it, or the page to read."""

    topic: str
    setting: str
    actual: str
    expected: str
    stops: bool
    mend: str

    def __str__(self) -> str:
        """In one line."""
        return f"topic {self.topic} has {self.setting}={self.actual}, not {self.expected}: {self.mend}"


class Rule(NamedTuple):
    """What a setting must be. Of (actual, expected) `wrong` says if it deviates, and `stops` if work stops then."""

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
"""Those that Kafka keeps as configurations of a topic."""


def configs(settings: KafkaSettings) -> dict[str, str]:
    """What a topic is created with."""
    return {name: RULES[name].expected(settings) for name in CONFIGS}


async def deviations(client: AIOKafkaAdminClient, settings: KafkaSettings, names: Sequence[str]) -> list[Deviation]:
    """How topics, by their names in Kafka, differ from what they must be. Raises UsageError, or Kafka's own errors."""
    topics = (await metadata.describe(client._client, names)).topics
    described = await _configs(client, [name for name in names if name in topics])
    found = []
    for name in names:
        if name not in topics:
            found.append(Deviation(name, "existence", "none", "one", True, f"see {PAGE}"))
            continue
        for setting, value in (described[name] | _shape(topics[name])).items():
            rule, expected = RULES[setting], RULES[setting].expected(settings)
            if rule.wrong(value, expected):
                mend = _mend(settings, name, setting, expected)
                found.append(Deviation(name, setting, value, expected, rule.stops(value, expected), mend))
    return found


def _shape(topic: Topic) -> dict[str, str]:
    replicas = min((one.replicas for one in topic.partitions.values()), default=0)
    return {PARTITIONS: str(len(topic.partitions)), REPLICAS: str(replicas)}


def _mend(settings: KafkaSettings, topic: str, setting: str, expected: str) -> str:
    if setting in (PARTITIONS, REPLICAS):
        return f"see {PAGE}"
    return (
        f"kafka-configs.sh --bootstrap-server {settings.bootstrap_servers} --alter --entity-type topics "
        f"--entity-name {topic} --add-config {setting}={expected}"
    )


async def _configs(client: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The settings of topics. A broker that does not know a new topic yet is asked again."""
    wanted: dict[str, str | None] = dict.fromkeys(CONFIGS)
    async with asyncio.timeout(_SETTLE_SECONDS):
        while True:
            answers = await client.describe_configs([topic_resource(name, wanted) for name in names])
            found = [each for answer in answers for each in answer.resources]
            if all(code != metadata.UNKNOWN_TOPIC for code, *_ in found):
                break
            await asyncio.sleep(0.05)
    for code, message, _, name, _ in found:
        if code:
            raise UsageError(f"Kafka does not show the settings of topic {name}: {message or for_code(code).__name__}")
    return {name: {entry[0]: entry[1] for entry in entries} for _, _, _, name, entries in found}


def topic_resource(name: str, values: Mapping[str, str | None]) -> ConfigResource:
    """A topic's settings as the admin client wants them: values to set, or None to ask."""
    return ConfigResource(ConfigResourceType.TOPIC, name, configs=dict(values))
