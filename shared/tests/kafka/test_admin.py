import pytest

from touchpoint.base.errors import UsageError
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.topics import ESCALATIONS, FEEDBACK, TOUCHPOINTS
from touchpoint.kafka import admin
from touchpoint.kafka.requirements import topic_resource
from touchpoint.testing import eventually


async def topics(kafka: KafkaSettings) -> dict[str, int]:
    async with admin.connected(kafka) as client:
        described = await client.describe_topics()
    prefix = kafka.topic_prefix
    return {t["topic"].removeprefix(prefix): len(t["partitions"]) for t in described if t["topic"].startswith(prefix)}


async def test_every_topic_exists_with_the_same_partition_count(kafka: KafkaSettings) -> None:
    assert await topics(kafka) == {TOUCHPOINTS: 3, FEEDBACK: 3, ESCALATIONS: 3}


async def test_a_consumer_has_a_dead_letter_topic_for_each_topic_it_reads(kafka: KafkaSettings) -> None:
    await admin.provision(kafka, {"metrics-svc": [TOUCHPOINTS, FEEDBACK]})
    assert (await topics(kafka)).keys() >= {"touchpoints.v1.metrics-svc.dlq", "feedback.v1.metrics-svc.dlq"}


async def test_provisioning_again_changes_nothing(kafka: KafkaSettings) -> None:
    before = await topics(kafka)
    await admin.provision(kafka, {})
    assert await topics(kafka) == before


async def test_topics_keep_all_records_and_use_the_brokers_timestamp(kafka: KafkaSettings) -> None:
    name = kafka.topic_prefix + TOUCHPOINTS
    wanted = ("cleanup.policy", "retention.ms", "message.timestamp.type", "max.message.bytes")
    async with admin.connected(kafka) as client:
        [answer] = await client.describe_configs([topic_resource(name, dict.fromkeys(wanted))])
    entries = {entry[0]: entry[1] for entry in answer.resources[0][4]}
    assert [entries[key] for key in wanted] == ["delete", "-1", "LogAppendTime", "1048576"]


async def test_another_partition_count_is_refused_and_the_error_names_the_runbook(kafka: KafkaSettings) -> None:
    with pytest.raises(UsageError, match=r"has partitions=3, not 4: see docs/runbooks/topic-changed\.md"):
        await admin.provision(kafka.model_copy(update={"partitions": 4}), {})


async def test_a_topic_with_the_clients_timestamp_is_refused(kafka: KafkaSettings) -> None:
    async with admin.connected(kafka) as client:
        await client.alter_configs([topic_resource(kafka.topic_prefix + FEEDBACK, {"retention.ms": "1000000"})])

    async def refused() -> str:
        try:
            await admin.provision(kafka, {})
        except UsageError as error:
            return str(error)
        return ""  # the broker has not yet applied the change

    assert (
        "feedback.v1 has message.timestamp.type=CreateTime, not LogAppendTime: kafka-configs.sh "
        in await eventually(refused)
    )


async def test_more_replicas_than_brokers_are_refused_with_kafkas_reason(kafka: KafkaSettings) -> None:
    settings = kafka.model_copy(update={"topic_prefix": kafka.topic_prefix + "b.", "replication_factor": 7})
    with pytest.raises(UsageError, match=r"did not create topic .*replication factor"):
        await admin.provision(settings, {})


async def test_an_unreachable_kafka_is_named() -> None:
    with pytest.raises(UsageError, match=r"Kafka cannot be reached at 127\.0\.0\.1:1: "):
        await admin.provision(KafkaSettings(bootstrap_servers="127.0.0.1:1"), {})
