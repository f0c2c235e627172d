"""The rights of each user in Kafka: each service may read and write exactly the topics that it needs."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewPartitions
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError

from touchpoint.base.errors import UsageError
from touchpoint.contracts.topics import WRITERS, dead_letters
from touchpoint.kafka import admin
from touchpoint.kafka.requirements import topic_resource
from touchpoint.testing.system import READS

pytestmark = pytest.mark.servers

PREFIX = "rights."
LETTERS = {service: {dead_letters(topic, service) for topic in topics} for service, topics in READS.items()}
TOPICS = {*WRITERS, *(topic for topics in LETTERS.values() for topic in topics)}
WRITES = {
    "gateway": {"touchpoints.v1"},
    "feedback-svc": {"feedback.v1", *LETTERS["feedback-svc"]},
    "escalation-svc": {"escalations.v1", *LETTERS["escalation-svc"]},
    "metrics-svc": LETTERS["metrics-svc"],
    "operator": set(),
}
MAY_READ = {"gateway": set(), **{service: set(topics) for service, topics in READS.items()}, "operator": TOPICS}


@pytest.fixture(scope="module")
async def topics(secured):
    """All topics; each has a record."""
    settings = secured.kafka.model_copy(update={"topic_prefix": PREFIX, "partitions": 1})
    await admin.provision(settings, READS)
    await secured.let_in(PREFIX)
    assert await written(settings, TOPICS) == TOPICS
    return TOPICS


async def written(settings, names):
    """The topics of `names` that this user may write to."""
    producer = AIOKafkaProducer(**settings.client_options())
    await producer.start()
    try:
        return {name for name in names if await _is_sent(producer, settings.topic_prefix + name)}
    finally:
        await producer.stop()


async def _is_sent(producer, topic):
    try:
        await producer.send_and_wait(topic, b"probe")
    except TopicAuthorizationFailedError:
        return False
    return True


async def read(settings, names):
    """The topics of `names` that this user may read."""
    async with admin.connected(settings) as client:
        topics = await client.describe_topics([settings.topic_prefix + name for name in names])
    seen = {topic["topic"] for topic in topics if topic["error_code"] != TopicAuthorizationFailedError.errno}
    return {topic.removeprefix(settings.topic_prefix) for topic in seen if await _is_read(settings, topic)}


async def _is_read(settings, topic):
    async with AIOKafkaConsumer(**settings.client_options(), auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        try:
            async with asyncio.timeout(20):
                return bool(await consumer.getone())
        except TopicAuthorizationFailedError:
            return False


@pytest.mark.parametrize("user", WRITES)
async def test_a_service_may_write_only_its_topic_and_dead_letters_and_an_operator_nothing(secured, topics, user):
    assert await written(secured.kafka_as(user, PREFIX), topics) == WRITES[user]


@pytest.mark.parametrize("user", MAY_READ)
async def test_a_service_may_read_only_its_consumers_topics_and_an_operator_all(secured, topics, user):
    assert await read(secured.kafka_as(user, PREFIX), topics) == MAY_READ[user]


@pytest.mark.parametrize("user", WRITES)
async def test_a_user_may_use_only_its_own_consumer_group(secured, topics, user):
    for group in READS:
        settings = secured.kafka_as(user, PREFIX)
        consumer = AIOKafkaConsumer(**settings.client_options(), group_id=PREFIX + group)
        await consumer.start()
        try:
            if group == user:
                assert await consumer.committed(TopicPartition(PREFIX + "touchpoints.v1", 0)) is None
            else:
                with pytest.raises(GroupAuthorizationFailedError):
                    await consumer.committed(TopicPartition(PREFIX + "touchpoints.v1", 0))
        finally:
            await consumer.stop()


async def test_a_service_may_not_create_topics_and_the_error_names_the_missing_right(secured, topics):
    settings = secured.kafka_as("feedback-svc", "unknown.").model_copy(update={"partitions": 1})
    with pytest.raises(UsageError, match=r"grant it (DESCRIBE|CREATE)"):
        await admin.provision(settings, {})


async def test_an_operator_may_not_delete_or_change_a_topic(secured, topics):
    name = PREFIX + "feedback.v1"
    async with admin.connected(secured.kafka_as("operator", PREFIX)) as client:
        [(_, deleted)] = (await client.delete_topics([name])).topic_error_codes
        [answer] = await client.alter_configs([topic_resource(name, {"retention.ms": "1"})])
        [(altered, *_)] = answer.resources
        assert {deleted, altered} == {TopicAuthorizationFailedError.errno}
        with pytest.raises(TopicAuthorizationFailedError):
            await client.create_partitions({name: NewPartitions(2)})
