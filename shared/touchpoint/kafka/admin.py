"""Topics are provisioned, never auto-created: one partition count everywhere, kept for ever, stamped by the broker."""

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
    """Create what is missing of the topics, and of the dead-letter topics of each consumer (name: topics it reads).

    Returns when every partition has a leader. Safe to run again and by several at once. Raises UsageError when Kafka
    cannot be reached, a right is missing, or a topic exists with a partition count or settings we cannot work with.
    """
    names = [settings.topic_prefix + name for name in _logical_names(consumers)]
    async with connected(settings) as admin:
        found = await _partitions(admin, names)
        missing = [name for name in names if name not in found]
        if missing:
            await _create(admin, settings, missing)
            await _settled(admin, names)
        wrong = await deviations(admin, settings, names)
    for one in wrong:
        if one.stops:
            raise UsageError(str(one))
        telemetry.log().warning(telemetry.TOPIC_CHANGED, deviation=str(one), stops=False)


@asynccontextmanager
async def connected(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client; Kafka's errors leave the block as UsageError."""
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
    """What to look at. aiokafka's clients keep to themselves why they found no broker: a connection of our own says."""
    options, where = settings.client_options(), settings.bootstrap_servers
    del options["bootstrap_servers"]
    for host, port, _ in collect_hosts(where):
        try:
            (await create_conn(host, port, request_timeout_ms=5000, **options)).close()
        except ssl.SSLCertVerificationError as error:
            return (
                f"Kafka at {where} shows a certificate not to be trusted ({error.verify_message}): see KAFKA_SSL_CAFILE"
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
    """Which Kafka this is: offsets mean something in one cluster only. Raises Kafka's own errors."""
    client = AIOKafkaAdminClient(**settings.client_options())
    await client.start()
    try:
        return str((await client.describe_cluster())["cluster_id"])
    finally:
        await client.close()


def _logical_names(consumers: Mapping[str, Iterable[str]]) -> list[str]:
    return [*WRITERS, *(dead_letters(topic, name) for name, topics in consumers.items() for topic in topics)]


async def _partitions(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The partitions of those topics that exist."""
    found = await admin.describe_topics(names)
    for topic in found:
        if topic["error_code"] in _NOT_AUTHORIZED:
            raise UsageError(f"Kafka lets this user not see topic {topic['topic']}: grant it DESCRIBE on the topic")
    return {topic["topic"]: topic["partitions"] for topic in found if topic["error_code"] != _UNKNOWN_TOPIC}


async def _create(admin: AIOKafkaAdminClient, settings: KafkaSettings, names: list[str]) -> None:
    wanted = configs(settings)
    new = [NewTopic(name, settings.partitions, settings.replication_factor, topic_configs=wanted) for name in names]
    answer = await admin.create_topics(new)
    for name, code, message in answer.topic_errors:
        if code in _NOT_AUTHORIZED:
            raise UsageError(
                f"Kafka lets this user not create topic {name}: grant it CREATE, or create the topic first"
            )
        if code not in (0, TopicAlreadyExistsError.errno):
            raise UsageError(f"Kafka did not create topic {name}: {message or for_code(code).__name__}")


async def _settled(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The partitions once brokers know all topics and every partition has a leader."""
    async with asyncio.timeout(_SETTLE_SECONDS):
        while True:
            found = await _partitions(admin, names)
            if len(found) == len(names) and all(p["leader"] >= 0 for parts in found.values() for p in parts):
                return found
            await asyncio.sleep(0.05)
