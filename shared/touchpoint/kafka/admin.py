"""Creates and checks the topics: one partition count for all, unlimited retention, timestamps set by the broker."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAlreadyExistsError,
    for_code,
)

from touchpoint.base import telemetry
from touchpoint.base.errors import UnreachableError, UsageError
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.topics import WRITERS, dead_letters
from touchpoint.kafka.requirements import configs, deviations

_UNKNOWN_TOPIC = 3
_NOT_AUTHORIZED = (29, 31)  # TOPIC_AUTHORIZATION_FAILED, CLUSTER_AUTHORIZATION_FAILED
_SETTLE_SECONDS = 30


async def provision(settings: KafkaSettings, consumers: Mapping[str, Iterable[str]]) -> None:
    """Create missing topics, and the dead-letter topics of each consumer (`consumers`: name and the topics it reads).

    Returns when every partition has a leader. Idempotent, and safe to run concurrently. Raises UsageError when Kafka
    cannot be reached, a permission is missing, or an existing topic has a partition count or setting that stops work.
    """
    names = [settings.topic_prefix + name for name in _logical_names(consumers)]
    async with connected(settings) as admin:
        existing = await _partitions(admin, names)
        missing = [name for name in names if name not in existing]
        if missing:
            await _create(admin, settings, missing)
            await _wait_for_leaders(admin, names)
        wrong = await deviations(admin, settings, names)
    for deviation in wrong:
        if deviation.stops:
            raise UsageError(str(deviation))
        telemetry.log().warning(telemetry.TOPIC_CHANGED, deviation=str(deviation), stops=False)


@asynccontextmanager
async def connected(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client. Errors of Kafka inside the block are raised as UsageError."""
    admin = AIOKafkaAdminClient(**settings.client_options(), client_id="touchpoint-admin")
    try:
        await admin.start()
        yield admin
    except KafkaConnectionError:
        raise UnreachableError(await _why_unreachable(settings)) from None
    except (KafkaError, TimeoutError) as error:
        raise UsageError(f"Kafka at {settings.bootstrap_servers} refused: {error or type(error).__name__}") from None
    finally:
        await admin.close()


async def _why_unreachable(settings: KafkaSettings) -> str:
    """The reason Kafka is unreachable, with the setting to check.

    aiokafka's clients hide why they could not connect to any broker, so this opens a connection of its own.
    """
    options, where = settings.client_options(), settings.bootstrap_servers
    del options["bootstrap_servers"]
    for host, port, _ in collect_hosts(where):
        try:
            (await create_conn(host, port, request_timeout_ms=5000, **options)).close()
        except ssl.SSLCertVerificationError as error:
            return (
                f"Kafka at {where} presents an untrusted certificate ({error.verify_message}): check KAFKA_SSL_CAFILE"
            )
        except (SaslAuthenticationFailed, AuthenticationFailedError):
            return f"Kafka at {where} refuses KAFKA_SASL_USERNAME with KAFKA_SASL_PASSWORD ({settings.sasl_mechanism})"
        except (KafkaError, OSError, TimeoutError):
            continue
    return (
        f"Kafka cannot be reached at {where}: is it running, and are KAFKA_BOOTSTRAP_SERVERS and "
        "KAFKA_SECURITY_PROTOCOL right?"
    )


async def cluster_id(settings: KafkaSettings) -> str:
    """The id of the Kafka cluster. Offsets are valid in one cluster only. Raises Kafka's own errors."""
    client = AIOKafkaAdminClient(**settings.client_options())
    try:
        await client.start()
        return str((await client.describe_cluster())["cluster_id"])
    finally:
        await client.close()


def _logical_names(consumers: Mapping[str, Iterable[str]]) -> list[str]:
    return [*WRITERS, *(dead_letters(topic, name) for name, topics in consumers.items() for topic in topics)]


async def _partitions(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The partitions of those topics that exist, by topic."""
    described = await admin.describe_topics(names)
    for topic in described:
        if topic["error_code"] in _NOT_AUTHORIZED:
            raise UsageError(f"this Kafka user may not describe topic {topic['topic']}: grant it DESCRIBE on the topic")
    return {topic["topic"]: topic["partitions"] for topic in described if topic["error_code"] != _UNKNOWN_TOPIC}


async def _create(admin: AIOKafkaAdminClient, settings: KafkaSettings, names: list[str]) -> None:
    wanted = configs(settings)
    new = [NewTopic(name, settings.partitions, settings.replication_factor, topic_configs=wanted) for name in names]
    answer = await admin.create_topics(new)
    for name, code, message in answer.topic_errors:
        if code in _NOT_AUTHORIZED:
            raise UsageError(f"this Kafka user may not create topic {name}: grant it CREATE, or create the topic first")
        if code not in (0, TopicAlreadyExistsError.errno):
            raise UsageError(f"Kafka did not create topic {name}: {message or for_code(code).__name__}")


async def _wait_for_leaders(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    """Wait until the brokers list all topics and every partition has a leader."""
    async with asyncio.timeout(_SETTLE_SECONDS):
        while True:
            topics = await _partitions(admin, names)
            if len(topics) == len(names) and all(p["leader"] >= 0 for parts in topics.values() for p in parts):
                return
            await asyncio.sleep(0.05)
