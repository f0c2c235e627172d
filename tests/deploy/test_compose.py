"""docker-compose.yml: valid, with the right start order, and with as few privileges and open ports as possible."""

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from opentelemetry.sdk import environment_variables

from tests.deploy.documents import PINNED, ROOT, SERVICES, compose, environment_names, settings_class
from touchpoint.local import jars, postgres

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "compose.json").read_text())
ALL = compose()["services"]
OURS = {name: service for name, service in ALL.items() if "build" in service}
MIGRATIONS = {name: service for name, service in OURS.items() if service.get("command") == ["migrate"]}
ONE_SHOTS = {name for name, service in ALL.items() if service["restart"] == "no"}


def of(name: str) -> str:
    return name.removesuffix("-migrate")


def test_the_file_is_valid_by_the_schema_of_compose():
    assert [error.message for error in Draft202012Validator(SCHEMA).iter_errors(compose())] == []


def test_the_file_has_the_four_services_and_a_migration_for_each():
    assert set(OURS) - set(MIGRATIONS) == set(SERVICES)
    assert {of(name) for name in MIGRATIONS} == set(SERVICES)
    assert {*MIGRATIONS, "grafana-reader"} == ONE_SHOTS


@pytest.mark.parametrize("name", OURS)
def test_our_containers_are_read_only_and_have_no_capabilities(name):
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not {"cap_add", "user", "volumes"} & set(service)
    assert service["build"]["dockerfile"] == f"services/{of(name)}/Dockerfile"
    assert service["image"] == f"touchpoint/{of(name)}:{version(of(name))}"


@pytest.mark.parametrize("name", ALL)
def test_every_container_is_unprivileged_pinned_and_has_a_health_check(name):
    service = ALL[name]
    assert PINNED.fullmatch(service["image"])
    assert not {"privileged", "network_mode", "pid", "ipc", "container_name"} & set(service)
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["healthcheck"].get("disable") is (True if name in ONE_SHOTS else None)
    assert service["profiles"] in (["core"], ["observe"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_starts_after_its_migration_has_completed(name):
    assert ALL[name]["depends_on"][f"{name}-migrate"] == {"condition": "service_completed_successfully"}
    waits = ALL[f"{name}-migrate"]["depends_on"]
    assert waits == {server: {"condition": "service_healthy"} for server in ("kafka", "postgres")}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"gateway"}))
def test_a_service_publishes_no_port_so_that_it_can_be_scaled(name):
    assert "ports" not in ALL[name]


def test_only_the_gateways_public_port_is_published_beyond_the_loopback_interface():
    ports = {port for service in ALL.values() for port in service.get("ports", ())}
    assert {port for port in ports if not port.startswith("127.0.0.1:")} == {"8080:8080"}
    assert "127.0.0.1:9080:9080" in ALL["gateway"]["ports"]


def test_prometheus_scrapes_the_admin_port_of_every_service():
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    [scrape] = config["scrape_configs"]
    ports = {name: each["port"] for each in scrape["dns_sd_configs"] for name in each["names"]}
    assert ports == {name: settings_class(name).model_fields["admin_port"].default for name in SERVICES}
    [alerting] = config["alerting"]["alertmanagers"]
    assert alerting["static_configs"] == [{"targets": ["alertmanager:9093"]}]


def test_grafana_has_the_variables_of_its_data_sources_and_the_dashboards_folder():
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    sources = (folder / "datasources" / "touchpoint.yml").read_text()
    variables = ALL["grafana"]["environment"]
    assert set(re.findall(r"\$(\w+)", sources)) <= set(variables)
    assert "url: http://prometheus:9090" in sources
    [provider] = yaml.safe_load((folder / "dashboards" / "touchpoint.yml").read_text())["providers"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in ALL["grafana"]["volumes"]


@pytest.mark.parametrize("name", OURS)
def test_a_service_knows_all_its_variables_and_accepts_their_values(name, monkeypatch):
    environment = OURS[name]["environment"]
    assert set(environment) <= environment_names(of(name)) | vars(environment_variables).keys()
    for key, value in environment.items():
        monkeypatch.setenv(key, str(value))
    settings = settings_class(of(name))()
    for url in (value for key, value in environment.items() if re.fullmatch("(FEEDBACK|ESCALATION|METRICS)_URL", key)):
        service, port = re.fullmatch(r"http://([\w-]+):(\d+)", url).groups()
        assert settings_class(service).model_fields["port"].default == int(port)
    assert settings.database_url.get_secret_value().endswith(f"@postgres:5432/{of(name).removesuffix('-svc')}")


def test_kafka_and_postgresql_have_the_versions_that_the_tests_use():
    assert ALL["kafka"]["image"].rpartition(":")[2] == jars.WANTED[0].rpartition(":")[2]
    assert ALL["postgres"]["image"].rpartition(":")[2].startswith(f"{postgres.MAJOR}.")


def test_the_example_env_file_names_every_variable_and_contains_no_secret():
    text = (ROOT / "docker-compose.yml").read_text()
    example = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    used = dict(re.findall(r"\$\{(\w+)(:[-?])", text))
    assert set(example) == set(used) | {"COMPOSE_PROFILES"}
    assert {name for name, value in example.items() if not value} == {
        name for name, kind in used.items() if kind == ":?"
    }


def test_every_mounted_path_of_the_repository_exists():
    for service in ALL.values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists(), source
