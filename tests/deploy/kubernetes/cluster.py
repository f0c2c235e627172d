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
    """Every object of a folder of deploy/k8s, as kustomize makes it."""
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
        """All of some kinds."""
        return [each for each in self.objects if each["kind"] in kinds]

    def get(self, kind: str, name: str) -> Object:
        """The one of this name."""
        [document] = [each for each in self.of(kind) if each["metadata"]["name"] == name]
        return document

    def workloads(self) -> list[Object]:
        """The objects with a pod template."""
        return self.of("Deployment", "Job", "CronJob")

    def processes(self) -> list[Object]:
        """Those that run a service, in a role of it; the others wait for operators' commands."""
        return self.of("Deployment", "Job")

    def services_pods(self) -> list[Labels]:
        """The labels of our pods, one of each kind."""
        return [pod_labels(each) for each in self.workloads()]

    def all_pods(self) -> list[Labels]:
        """And of the brokers and databases that operators make: what policies select them by."""
        databases = [
            {"cnpg.io/cluster": each["metadata"]["name"], **each["spec"]["inheritedMetadata"]["labels"]}
            for each in self.of("Cluster")
        ]
        brokers = {"strimzi.io/cluster": "touchpoint", "strimzi.io/kind": "Kafka", "strimzi.io/pool-name": "broker"}
        return [*self.services_pods(), *databases, brokers]

    def reach(self, pod: Labels) -> set[tuple[str, str]]:
        """Which of all pods (by label) this one may open a connection to, at which port, as its own policies say."""
        return {
            (describe(other), str(port["port"]))
            for rule in self.rules(pod, "Egress")
            for peer in rule.get("to", [])
            for other in self.all_pods()
            if "podSelector" in peer and selects(peer["podSelector"], other)
            for port in rule.get("ports", [{"port": "any"}])
        }

    def entries(self, pod: Labels) -> list[tuple[list[Object] | None, list[str]]]:
        """From where (None: anywhere) this pod may be reached, and at which ports."""
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
    """The pod's spec."""
    spec: Object = _template(workload)["spec"]
    return spec


def container(workload: Object) -> Object:
    """The one container."""
    [only] = pod(workload)["containers"]
    assert "initContainers" not in pod(workload)
    return dict(only)


def pod_labels(workload: Object) -> Labels:
    """Of the pods of a workload."""
    labels: Labels = _template(workload)["metadata"]["labels"]
    return labels


def _template(workload: Object) -> Object:
    """The labels of the pods of a Deployment or Job, or of the Jobs created from a CronJob."""
    spec = workload["spec"]
    template: Object = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]
    return template


def selects(selector: Object, labels: Labels) -> bool:
    """Whether a label selector fits."""
    wanted = selector.get("matchLabels", {}).items()
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return wanted <= labels.items() and all(labels.get(each["key"]) in each["values"] for each in expressions)


def describe(labels: Labels) -> str:
    """A pod in a word: `feedback-svc api`, `feedback-svc-db`, `Kafka`."""
    if NAME in labels:
        return f"{labels[NAME]} {labels[ROLE]}"
    return labels.get("cnpg.io/cluster") or labels["strimzi.io/kind"]
