"""Kafka on Kubernetes: the topics that the services need, and for each user no more rights than it needs."""

import pytest

from tests.deploy.documents import SERVICES
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.topics import WRITERS, dead_letters
from touchpoint.kafka.requirements import configs
from touchpoint.testing.system import READS


def reads(service: str) -> list[str]:
    """The topics that the service's consumer reads."""
    return READS.get(service, [])


def kafka_settings(cluster) -> KafkaSettings:
    [data] = [
        each["data"] for each in cluster.of("ConfigMap") if each["metadata"]["name"].startswith("touchpoint-settings")
    ]
    return KafkaSettings(
        partitions=data["KAFKA_PARTITIONS"],
        replication_factor=data["KAFKA_REPLICATION_FACTOR"],
        min_insync_replicas=data["KAFKA_MIN_INSYNC_REPLICAS"],
    )


def operations(cluster, user: str) -> dict[str, set[tuple[str, str]]]:
    """A user's ACLs by operation: types and names of the resources."""
    rights: dict[str, set[tuple[str, str]]] = {}
    for acl in cluster.get("KafkaUser", user)["spec"]["authorization"]["acls"]:
        assert acl["resource"].get("patternType", "literal") == "literal"
        for operation in acl["operations"]:
            rights.setdefault(operation, set()).add((acl["resource"]["type"], acl["resource"]["name"]))
    return rights


def test_the_topics_are_those_that_the_services_would_create(cluster):
    expected = {*WRITERS, *(dead_letters(topic, name) for name in SERVICES for topic in reads(name))}
    assert {each["metadata"]["name"] for each in cluster.of("KafkaTopic")} == expected


def test_a_topic_has_the_partitions_the_replicas_and_the_configuration_of_the_settings(cluster):
    kafka = kafka_settings(cluster)
    for each in cluster.of("KafkaTopic"):
        spec = each["spec"]
        assert spec["partitions"] == kafka.partitions
        assert spec["replicas"] == kafka.replication_factor
        assert {name: str(value) for name, value in spec["config"].items()} == configs(kafka)


def test_brokers_equal_replicas_and_in_production_one_of_three_may_fail(cluster, request):
    kafka = kafka_settings(cluster)
    [pool] = cluster.of("KafkaNodePool")
    config = cluster.get("Kafka", "touchpoint")["spec"]["kafka"]["config"]
    assert pool["spec"]["replicas"] == config["default.replication.factor"] == kafka.replication_factor
    assert config["min.insync.replicas"] == kafka.min_insync_replicas
    assert config["auto.create.topics.enable"] is False
    if "prod" in request.node.callspec.id:
        assert (kafka.replication_factor, kafka.min_insync_replicas) == (3, 2)


@pytest.mark.parametrize("service", SERVICES)
def test_a_kafka_user_may_write_and_read_exactly_the_topics_of_its_service(cluster, service):
    may = operations(cluster, service)
    own = {("topic", topic) for topic, writer in WRITERS.items() if writer == service}
    letters = {("topic", dead_letters(topic, service)) for topic in reads(service)}
    group = {("group", service)} if reads(service) else set()
    everything = {("topic", topic) for topic in WRITERS} | letters
    assert may.pop("Write") == own | letters
    assert may.pop("Read", set()) == {("topic", topic) for topic in reads(service)} | group
    assert may.pop("DescribeConfigs") == everything
    assert may.pop("Describe") == everything | group
    assert may == {}


def test_an_operator_may_only_read_topics(cluster):
    topics = {("topic", each["metadata"]["name"]) for each in cluster.of("KafkaTopic")}
    assert operations(cluster, "operator") == {"Read": topics, "Describe": topics, "DescribeConfigs": topics}


def test_the_autoscalers_user_may_only_describe(cluster):
    assert set(operations(cluster, "kafka-lag")) == {"Describe", "DescribeConfigs"}


def test_clients_need_tls_and_a_password_and_acls_apply_to_everyone(cluster):
    kafka = cluster.get("Kafka", "touchpoint")["spec"]["kafka"]
    [listener] = kafka["listeners"]
    assert (listener["type"], listener["tls"], listener["authentication"]["type"]) == (
        "internal",
        True,
        "scram-sha-512",
    )
    assert kafka["authorization"] == {"type": "simple"}
    for user in cluster.of("KafkaUser"):
        assert user["spec"]["authentication"] == {"type": "scram-sha-512"}
