"""Rules for the workloads on Kubernetes: restricted, with resource limits and probes, and with valid settings only."""

import os
import re
import shutil
from collections import Counter

import pytest

from tests.deploy.documents import PINNED, SERVICES, environment_names, settings_class
from tests.deploy.kubernetes.cluster import K8S, NAME, ROLE, Cluster, build, container, pod, pod_labels, selects
from touchpoint.base.settings import ServiceSettings
from touchpoint.process.service import OPERATORS_CONNECTIONS, STOP_SECONDS
from touchpoint.testing.system import roles_of

ROLES = {name: set(roles_of(name)) for name in SERVICES}
LIBPQ = {"PGSSLMODE", "PGSSLROOTCERT"}
"""Environment variables of libpq that the PostgreSQL driver reads itself."""
SECRETS = {"DATABASE_URL": "postgresql://who:what@where/db", "INTERNAL_TOKEN_SECRETS": '["' + "x" * 32 + '"]'}


def environment(cluster: Cluster, workload) -> dict[str, str]:
    """The environment of a process: its ConfigMap, its own variables, and a placeholder for each secret."""
    [source] = container(workload)["envFrom"]
    shared = dict(cluster.get("ConfigMap", source["configMapRef"]["name"])["data"])
    return shared | {
        each["name"]: each.get("value", SECRETS.get(each["name"], "x")) for each in container(workload)["env"]
    }


def settings(cluster: Cluster, workload, monkeypatch) -> ServiceSettings:
    for name in os.environ:
        monkeypatch.delenv(name)
    for name, value in environment(cluster, workload).items():
        monkeypatch.setenv(name, value)
    return settings_class(pod_labels(workload)[NAME])()


def test_every_role_of_a_service_is_one_deployment_and_its_migration_one_job(cluster):
    deployed = Counter((pod_labels(each)[NAME], *container(each)["args"]) for each in cluster.of("Deployment"))
    assert deployed == {(name, role): 1 for name, roles in ROLES.items() for role in roles}
    jobs = Counter((pod_labels(each)[NAME], *container(each)["args"]) for each in cluster.of("Job"))
    assert jobs == {(name, "migrate"): 1 for name in SERVICES}
    for each in cluster.processes():
        assert container(each)["args"] == [pod_labels(each)[ROLE]]


def test_every_pod_runs_its_services_image_and_all_have_the_same_version(cluster):
    [version] = {pod_labels(each)["app.kubernetes.io/version"] for each in cluster.workloads()}
    for each in cluster.workloads():
        assert container(each)["image"] == f"touchpoint/{pod_labels(each)[NAME]}:{version}"


def test_a_migration_job_is_named_by_its_version_and_deleted_soon_after_its_end(cluster):
    """A Job is immutable: another version needs another name, and finished Jobs are deleted within a minute."""
    for job in cluster.of("Job"):
        assert (
            job["metadata"]["name"] == f"{pod_labels(job)[NAME]}-migrate-{container(job)['image'].rpartition(':')[2]}"
        )
        assert job["spec"]["ttlSecondsAfterFinished"] <= 60


def test_a_registry_with_a_port_appears_in_images_and_not_in_job_names(tmp_path):
    copy = shutil.copytree(K8S, tmp_path / "k8s")
    release = copy / "release" / "kustomization.yaml"
    named = re.sub(r"- name: (\S+)\n", r"\g<0>    newName: registry.example:5000/\1\n", release.read_text())
    release.write_text(named)
    cluster = Cluster(build(str(copy / "overlays" / "dev")))
    for job in cluster.of("Job"):
        service, version = pod_labels(job)[NAME], job["metadata"]["labels"]["app.kubernetes.io/version"]
        assert container(job)["image"] == f"registry.example:5000/touchpoint/{service}:{version}"
        assert job["metadata"]["name"] == f"{service}-migrate-{version}"


def test_an_operators_pod_has_its_services_settings_its_own_kafka_user_and_a_deadline(cluster):
    def variables(workload):
        return {each["name"]: each for each in container(workload)["env"]}

    for job in cluster.of("Job"):
        operator = cluster.get("CronJob", f"{pod_labels(job)[NAME]}-operator")
        assert operator["spec"]["suspend"] is True
        assert operator["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] <= 8 * 3600
        assert pod_labels(operator)[ROLE] == "operator"
        its, own = variables(job), variables(operator)
        assert its.keys() - own.keys() == {"INTERNAL_TOKEN_SECRETS"}
        assert {name for name in own if own[name] != its.get(name)} == {"KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"}
        assert own["KAFKA_SASL_USERNAME"]["value"] == "operator"
        assert own["KAFKA_SASL_PASSWORD"]["valueFrom"]["secretKeyRef"] == {"name": "operator", "key": "password"}
        assert container(operator)["command"] == ["sleep", "infinity"]
        assert "args" not in container(operator)


def test_pods_are_restricted_and_have_a_read_only_file_system(cluster):
    [namespace] = cluster.of("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {each["metadata"].get("namespace", "touchpoint") for each in cluster.objects} == {"touchpoint"}
    for each in cluster.workloads():
        whole, own = pod(each)["securityContext"], container(each)["securityContext"]
        assert whole["runAsNonRoot"] is True
        assert whole["runAsUser"] == 10001
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod(each))
        assert {kind for volume in pod(each)["volumes"] for kind in set(volume) - {"name"}} == {"secret"}


def test_no_pod_has_a_token_for_the_cluster(cluster):
    accounts = {each["metadata"]["name"]: each for each in cluster.of("ServiceAccount")}
    for each in cluster.workloads():
        assert accounts[pod(each)["serviceAccountName"]]["automountServiceAccountToken"] is False
        assert pod(each)["automountServiceAccountToken"] is False
        assert pod(each)["enableServiceLinks"] is False
    assert not cluster.of("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def test_every_container_has_resource_requests_and_limits(cluster):
    databases = [each["spec"]["resources"] for each in cluster.of("Cluster")]
    brokers = [each["spec"]["resources"] for each in cluster.of("KafkaNodePool")]
    for resources in [*databases, *brokers, *(container(each)["resources"] for each in cluster.workloads())]:
        assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}


def test_every_image_has_a_pinned_version(cluster):
    images = [container(each)["image"] for each in cluster.workloads()]
    for image in images + [each["spec"]["imageName"] for each in cluster.of("Cluster")]:
        assert PINNED.fullmatch(image), image


def test_a_deployment_is_probed_at_its_admin_port(cluster):
    for each in cluster.of("Deployment"):
        paths = {
            probe: container(each)[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        assert paths == {
            "startupProbe": {"path": "/healthz", "port": "admin"},
            "livenessProbe": {"path": "/healthz", "port": "admin"},
            "readinessProbe": {"path": "/readyz", "port": "admin"},
        }


def test_a_pods_grace_period_is_longer_than_its_process_takes_to_stop(cluster):
    for each in cluster.of("Deployment"):
        before = container(each).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert pod(each)["terminationGracePeriodSeconds"] > STOP_SECONDS + before


def test_every_deployment_has_a_disruption_budget_and_is_spread_over_zones_and_nodes(cluster):
    budgets = {each["metadata"]["name"]: each["spec"] for each in cluster.of("PodDisruptionBudget")}
    for each in cluster.of("Deployment"):
        budget = budgets.pop(each["metadata"]["name"])
        assert budget["selector"] == each["spec"]["selector"]
        assert budget["maxUnavailable"] == 1
        constraints = pod(each)["topologySpreadConstraints"]
        assert [c["topologyKey"] for c in constraints] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        for constraint in constraints:
            assert selects(constraint["labelSelector"], pod_labels(each))
            assert constraint["matchLabelKeys"] == [ROLE]
    assert budgets == {}


def test_every_selector_matches_only_its_own_pods(cluster):
    for each in cluster.of("Deployment"):
        selected = [labels for labels in cluster.services_pods() if selects(each["spec"]["selector"], labels)]
        assert selected == [pod_labels(each)]
    for service in cluster.of("Service"):
        chosen = [
            each for each in cluster.of("Deployment") if service["spec"]["selector"].items() <= pod_labels(each).items()
        ]
        name, _, what = service["metadata"]["name"].rpartition("-")
        assert {(pod_labels(each)[NAME], pod_labels(each)[ROLE]) for each in chosen} == {
            (name, role) for role in (ROLES[name] if what == "admin" else {"api"})
        }


def test_pods_that_are_not_ready_are_scraped_too(cluster):
    [monitor] = cluster.of("ServiceMonitor")
    wanted = monitor["spec"]["selector"]
    monitored = [each for each in cluster.of("Service") if selects(wanted, each["metadata"]["labels"])]
    assert {each["metadata"]["name"] for each in monitored} == {f"{name}-admin" for name in SERVICES}
    assert all(each["spec"]["publishNotReadyAddresses"] for each in monitored)
    assert [each["port"] for each in monitor["spec"]["endpoints"]] == [monitored[0]["spec"]["ports"][0]["name"]]


def test_apis_and_consumers_are_autoscaled_and_their_deployments_set_no_replicas(cluster):
    targets = [each["spec"]["scaleTargetRef"]["name"] for each in cluster.of("HorizontalPodAutoscaler", "ScaledObject")]
    expected = {f"{name}-{role}" for name, roles in ROLES.items() for role in roles & {"api", "consumer"}}
    assert sorted(targets) == sorted(expected)
    for name in expected:
        assert "replicas" not in cluster.get("Deployment", name)["spec"]


def test_there_are_never_more_consumers_than_partitions(cluster, monkeypatch):
    for each in cluster.of("ScaledObject"):
        workload = cluster.get("Deployment", each["spec"]["scaleTargetRef"]["name"])
        config = settings(cluster, workload, monkeypatch)
        assert each["spec"]["maxReplicaCount"] <= config.kafka.partitions
        [trigger] = each["spec"]["triggers"]
        assert trigger["metadata"]["consumerGroup"] == config.kafka.topic_prefix + pod_labels(workload)[NAME]
        host, _, port = config.kafka.bootstrap_servers.partition(":")
        assert trigger["metadata"]["bootstrapServers"] == f"{host}.touchpoint.svc:{port}"


def test_a_process_knows_all_its_variables_and_accepts_their_values(cluster, monkeypatch):
    for each in cluster.processes():
        assert set(environment(cluster, each)) <= environment_names(pod_labels(each)[NAME]) | LIBPQ
        config = settings(cluster, each, monkeypatch)
        assert config.kafka.security_protocol == "SASL_SSL"
        assert config.kafka.sasl_username == pod_labels(each)[NAME]


def test_declared_ports_are_those_that_processes_listen_on(cluster, monkeypatch):
    for each in cluster.of("Deployment"):
        config = settings(cluster, each, monkeypatch)
        ports = {port["name"]: port["containerPort"] for port in container(each)["ports"]}
        assert ports.pop("admin") == config.admin_port
        assert ports == ({"http": config.port} if pod_labels(each)[ROLE] == "api" else {})
        for service in cluster.of("Service"):
            if service["spec"]["selector"].items() <= pod_labels(each).items():
                [port] = service["spec"]["ports"]
                assert port["port"] == {"http": config.port, "admin": config.admin_port}[port["targetPort"]]


def test_the_gateways_service_urls_name_existing_services_and_their_ports(cluster, monkeypatch):
    config = settings(cluster, cluster.get("Deployment", "gateway-api"), monkeypatch)
    for url in (config.feedback_url, config.escalation_url, config.metrics_url):
        assert url.port == cluster.get("Service", url.host)["spec"]["ports"][0]["port"]


def test_certificates_are_verified_and_mounted_at_the_configured_paths(cluster):
    for each in cluster.workloads():
        mounts = {mount["mountPath"]: mount["name"] for mount in container(each)["volumeMounts"]}
        volumes = {volume["name"]: volume["secret"] for volume in pod(each)["volumes"]}
        variables = environment(cluster, each)
        assert variables["PGSSLMODE"] == "verify-full"
        for certificate, secret in (
            (variables["KAFKA_SSL_CAFILE"], "touchpoint-cluster-ca-cert"),
            (variables["PGSSLROOTCERT"], f"{pod_labels(each)[NAME]}-db-ca"),
        ):
            folder, _, name = certificate.rpartition("/")
            assert volumes[mounts[folder]]["secretName"] == secret
            assert {item["path"] for item in volumes[mounts[folder]]["items"]} == {name}


def test_every_secret_is_created_by_a_kubernetes_operator_or_described_in_the_guide(cluster):
    databases = {each["metadata"]["name"] for each in cluster.of("Cluster")}
    made = {f"{name}-{what}" for name in databases for what in ("app", "ca")}
    made |= {each["metadata"]["name"] for each in cluster.of("KafkaUser")} | {"touchpoint-cluster-ca-cert"}
    for each in cluster.workloads():
        own = pod_labels(each)[NAME]
        used = [e["valueFrom"]["secretKeyRef"]["name"] for e in container(each)["env"] if "valueFrom" in e]
        used += [volume["secret"]["secretName"] for volume in pod(each)["volumes"]]
        assert set(used) - made == ({"touchpoint-tokens"} if each in cluster.processes() else set())
        assert {name for name in used if name.endswith(("-app", "-ca"))} == {f"{own}-db-app", f"{own}-db-ca"}
    assert "create secret generic touchpoint-tokens" in (K8S.parents[1] / "docs" / "deploy.md").read_text()


def test_a_database_allows_enough_connections_for_all_its_processes(cluster, monkeypatch):
    most = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]
        for each in cluster.of("HorizontalPodAutoscaler", "ScaledObject")
    }
    wanted = Counter()
    for each in cluster.of("Deployment"):
        scaled = most.get(each["metadata"]["name"], {})
        replicas = scaled.get("maxReplicas") or scaled.get("maxReplicaCount") or each["spec"]["replicas"]
        pool = settings(cluster, each, monkeypatch).database_pool_size
        wanted[pod_labels(each)[NAME]] += (replicas + 1) * (
            pool + OPERATORS_CONNECTIONS
        )  # one more pod during a rollout
    for name, connections in wanted.items():
        parameters = cluster.get("Cluster", f"{name}-db")["spec"]["postgresql"]["parameters"]
        assert connections + 10 <= int(parameters["max_connections"])


def test_only_the_gateway_is_reachable_from_outside_the_cluster(cluster):
    assert {each["spec"].get("type", "ClusterIP") for each in cluster.of("Service")} == {"ClusterIP"}
    [ingress] = cluster.of("Ingress")
    [rule] = ingress["spec"]["rules"]
    [path] = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": "gateway-api", "port": {"name": "http"}}
    assert {host for tls in ingress["spec"]["tls"] for host in tls["hosts"]} == {rule["host"]}


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_each_overlay_is_documented(overlay):
    assert f"deploy/k8s/overlays/{overlay}" in (K8S.parents[1] / "docs" / "deploy.md").read_text()
