"""An overlay that includes the component `tracing` exports traces."""

import os

import pytest
import yaml

from tests.deploy.kubernetes.cluster import K8S, Cluster, build
from touchpoint.base.settings import ServiceSettings


@pytest.fixture
def cluster(tmp_path):
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "touchpoint",
        "resources": [os.path.relpath(K8S / "overlays" / "prod", tmp_path)],
        "components": [os.path.relpath(K8S / "tracing", tmp_path)],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return Cluster(build(str(tmp_path)))


def test_every_process_has_the_setting_to_export_traces_and_may_reach_the_collector(cluster):
    [settings] = [each["data"] for each in cluster.of("ConfigMap") if "OTEL_TRACES_EXPORTER" in each.get("data", {})]
    assert settings["OTEL_TRACES_EXPORTER"] == "otlp"
    assert "KAFKA_PARTITIONS" in settings  # the ConfigMap that all pods use
    for labels in cluster.services_pods():
        outside = [
            peer for rule in cluster.rules(labels, "Egress") for peer in rule["to"]
            if peer.get("podSelector", {}).get("matchLabels") == {"app.kubernetes.io/name": "opentelemetry-collector"}
        ]  # fmt: skip
        assert len(outside) == 1


def test_the_services_have_the_setting_for_traces(cluster):
    assert "otel_traces_exporter" in ServiceSettings.model_fields
