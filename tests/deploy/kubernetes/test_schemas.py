"""Every object of every overlay is valid by the schema of its kind and has no unknown fields."""

import json
from typing import Any

import kubernetes_validate
import pytest
from jsonschema import Draft7Validator

from tests.deploy.documents import ROOT
from tests.deploy.kubernetes.cluster import Cluster, Object

SCHEMAS = ROOT / "tests" / "deploy" / "schemas"
KUBERNETES = "1.34"


def strict(schema: Any) -> Any:
    """A custom resource's schema that also refuses unknown fields, which a cluster would drop silently."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


def problems(each: Object) -> list[str]:
    group, _, version = each["apiVersion"].rpartition("/")
    vendored = SCHEMAS / f"{group}_{version}_{each['kind']}.json"
    if vendored.exists():
        schema = json.loads(vendored.read_text())
        schema["properties"]["metadata"] = {"type": "object"}
        errors = Draft7Validator(strict(schema)).iter_errors(each)
        problems = [f"{error.json_path}: {error.message}" for error in errors]
    else:
        try:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            problems = [f"{'.'.join(map(str, error.path))}: {error.message}"]
        else:
            problems = []
    return [f"{each['kind']} {each['metadata']['name']} {problem}" for problem in problems]


def test_every_object_is_valid_and_has_no_unknown_field(cluster: Cluster):
    assert [problem for each in cluster.objects for problem in problems(each)] == []


def test_every_custom_kind_has_a_schema_in_the_repository(cluster: Cluster):
    custom = {(each["apiVersion"], each["kind"]) for each in cluster.objects if ".k8s.io/" not in each["apiVersion"]}
    built_in = {"v1", "apps/v1", "batch/v1", "policy/v1", "autoscaling/v2"}
    for version, kind in custom:
        assert version in built_in or (SCHEMAS / f"{version.replace('/', '_')}_{kind}.json").exists()


@pytest.mark.parametrize(
    ("api", "kind", "spec"),
    [
        ("apps/v1", "Deployment", {"replicas": "two"}),
        ("keda.sh/v1alpha1", "ScaledObject", {"scaleTargetRef": {"name": "a"}, "triggers": [], "maxReplicas": 12}),
        ("kafka.strimzi.io/v1", "KafkaTopic", {"partitions": 12, "replica": 3}),
        ("postgresql.cnpg.io/v1", "Cluster", {"instances": "3"}),
        ("monitoring.coreos.com/v1", "ServiceMonitor", {"selector": {}, "endpoints": [{"portt": "admin"}]}),
    ],
)
def test_values_and_fields_that_a_cluster_would_refuse_or_drop_are_found(api, kind, spec):
    assert problems({"apiVersion": api, "kind": kind, "metadata": {"name": "any"}, "spec": spec})
