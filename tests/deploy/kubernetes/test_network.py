"""The connections that the network policies allow."""

from tests.deploy.documents import SERVICES
from tests.deploy.kubernetes.cluster import NAME, ROLE, Cluster, describe

KAFKA = ("Kafka", "9093")


def pods(cluster: Cluster):
    """Service, role and labels of each of the services' pods."""
    return [(labels[NAME], labels[ROLE], labels) for labels in cluster.services_pods()]


def test_all_connections_are_denied_by_default(cluster):
    default = cluster.get("NetworkPolicy", "default-deny")["spec"]
    assert default == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_a_pod_reaches_only_kafka_and_its_database_and_the_gateway_also_the_apis(cluster):
    apis = {(f"{name} api", "http") for name in SERVICES if name != "gateway"}
    for name, role, labels in pods(cluster):
        more = apis if (name, role) == ("gateway", "api") else set()
        assert cluster.reach(labels) == {KAFKA, (f"{name}-db", "5432")} | more


def test_outside_the_namespace_a_pod_reaches_only_dns(cluster):
    for _, _, labels in pods(cluster):
        for rule in cluster.rules(labels, "Egress"):
            outside = [peer for peer in rule["to"] if "namespaceSelector" in peer or "ipBlock" in peer]
            assert outside == [] or {port["port"] for port in rule["ports"]} == {53}


def test_only_the_gateways_public_port_is_open_to_every_source(cluster):
    for name, role, labels in pods(cluster):
        open_ports = [ports for source, ports in cluster.entries(labels) if source is None]
        assert open_ports == ([["http"]] if (name, role) == ("gateway", "api") else [])


def test_admin_ports_are_open_to_prometheus_and_the_gateways_also_to_operators(cluster):
    prometheus = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    operators = [{"podSelector": {"matchLabels": {ROLE: "operator"}}}]
    for name, role, labels in pods(cluster):
        admin = [source for source, ports in cluster.entries(labels) if "admin" in ports]
        expected = [operators, prometheus] if (name, role) == ("gateway", "api") else [prometheus]
        assert sorted(admin, key=str, reverse=True) == expected


def test_only_the_gateway_reaches_the_services_apis(cluster):
    gateway = [{"podSelector": {"matchLabels": {NAME: "gateway", ROLE: "api"}}}]
    for name, role, labels in pods(cluster):
        asked = [source for source, ports in cluster.entries(labels) if ports == ["http"]]
        if name != "gateway":
            assert asked == ([gateway] if role == "api" else [])


def test_inside_the_namespace_only_its_service_and_its_replicas_reach_a_database(cluster):
    for labels in cluster.all_pods():
        if "cnpg.io/cluster" in labels:
            inside = [peer for source, _ in cluster.entries(labels) for peer in source or () if "podSelector" in peer]
            assert all(source for source, _ in cluster.entries(labels))
            name = describe(labels).removesuffix("-db")
            assert [peer["podSelector"]["matchLabels"] for peer in inside] == [
                {NAME: name, "app.kubernetes.io/part-of": "touchpoint"},
                {"cnpg.io/cluster": f"{name}-db"},
            ]
