"""The objects that `kubectl apply -k` sends to a cluster, and the connections its network policies allow."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from tests.deploy.documents import ROOT
from tests.deploy.foreign import program

K8S = ROOT / "deploy" / "k8s"
NAME, ROLE = "app.kubernetes.io/name", "app.kubernetes.io/component"

Object = dict[str, Any]
Labels = dict[str, str]


@cache
def build(folder: str) -> list[Object]:
    """Every object that kustomize builds from a folder of deploy/k8s."""
    kustomize = program("kustomize", "kubectl")
    command = [kustomize, "kustomize" if kustomize.endswith("kubectl") else "build", str(K8S / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@dataclass(frozen=True)
class Cluster:
    """The objects of an overlay."""

    objects: list[Object]

    def of(self, *kinds: str) -> list[Object]:
        """All objects of these kinds."""
        return [each for each in self.objects if each["kind"] in kinds]

    def get(self, kind: str, name: str) -> Object:
        """The object of this kind and name."""
        [document] = [each for each in self.of(kind) if each["metadata"]["name"] == name]
        return document

    def workloads(self) -> list[Object]:
        """The objects with a pod template."""
        return self.of("Deployment", "Job", "CronJob")

    def processes(self) -> list[Object]:
        """The workloads that run a service's role or its migration; the CronJobs are for operators' commands."""
        return self.of("Deployment", "Job")

    def services_pods(self) -> list[Labels]:
        """The labels of the services' pods, one pod per workload."""
        return [pod_labels(each) for each in self.workloads()]

    def all_pods(self) -> list[Labels]:
        """The labels of all pods: the services' and those that Kubernetes operators create for Kafka and PostgreSQL."""
        databases = [
            {"cnpg.io/cluster": each["metadata"]["name"], **each["spec"]["inheritedMetadata"]["labels"]}
            for each in self.of("Cluster")
        ]
        brokers = {"strimzi.io/cluster": "touchpoint", "strimzi.io/kind": "Kafka", "strimzi.io/pool-name": "broker"}
        return [*self.services_pods(), *databases, brokers]

    def reach(self, pod: Labels) -> set[tuple[str, str]]:
        """The pods and ports to which this pod's egress policies allow connections: (`describe`, port)."""
        return {
            (describe(other), str(port["port"]))
            for rule in self.rules(pod, "Egress")
            for peer in rule.get("to", [])
            for other in self.all_pods()
            if "podSelector" in peer and selects(peer["podSelector"], other)
            for port in rule.get("ports", [{"port": "any"}])
        }

    def entries(self, pod: Labels) -> list[tuple[list[Object] | None, list[str]]]:
        """The sources (None: any) and ports from which the ingress policies allow connections to this pod."""
        return [
            (rule.get("from"), [str(port["port"]) for port in rule.get("ports", [])])
            for rule in self.rules(pod, "Ingress")
        ]

    def rules(self, pod: Labels, direction: str) -> Iterator[Object]:
        """The rules of all policies that select a pod, for a direction (Ingress, Egress)."""
        for policy in self.of("NetworkPolicy"):
            if direction in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], pod):
                yield from policy["spec"].get(direction.lower(), [])


def pod(workload: Object) -> Object:
    """The spec of a workload's pods."""
    spec: Object = _template(workload)["spec"]
    return spec


def container(workload: Object) -> Object:
    """The only container of a workload's pods."""
    [only] = pod(workload)["containers"]
    assert "initContainers" not in pod(workload)
    return dict(only)


def pod_labels(workload: Object) -> Labels:
    """The labels of a workload's pods."""
    labels: Labels = _template(workload)["metadata"]["labels"]
    return labels


def _template(workload: Object) -> Object:
    """The pod template of a Deployment or Job, or of the Jobs created from a CronJob."""
    spec = workload["spec"]
    template: Object = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]
    return template


def selects(selector: Object, labels: Labels) -> bool:
    """Whether a label selector matches the labels."""
    wanted = selector.get("matchLabels", {}).items()
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return wanted <= labels.items() and all(labels.get(each["key"]) in each["values"] for each in expressions)


def describe(labels: Labels) -> str:
    """A short name of a pod: `feedback-svc api`, `feedback-svc-db`, `Kafka`."""
    if NAME in labels:
        return f"{labels[NAME]} {labels[ROLE]}"
    return labels.get("cnpg.io/cluster") or labels["strimzi.io/kind"]
