"""The Dockerfiles: alike, in line with the settings, and with locked dependencies only."""

import asyncio
import re
import tomllib
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.documents import PINNED, ROOT, SERVICES, settings_class
from touchpoint.http import probe
from touchpoint.http.health import admin_app
from touchpoint.http.server import listen, serve


def dockerfile(service: str) -> str:
    return (ROOT / "services" / service / "Dockerfile").read_text()


def project(service: str) -> dict[str, str]:
    project: dict[str, str] = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text())["project"]
    return project


def without_names(service: str) -> str:
    """A Dockerfile with everything specific to its service replaced by placeholders."""
    settings = settings_class(service).model_fields
    own = {
        project(service)["description"]: "DESCRIPTION",
        str(settings["port"].default): "PORT",
        str(settings["admin_port"].default): "ADMIN",
        f'"-m", "{SERVICES[service]}"': "PACKAGE",
        service: "SERVICE",
    }
    text = dockerfile(service)
    for value, name in own.items():
        assert value in text, f"services/{service}/Dockerfile does not say {value}"
        text = text.replace(value, name)
    return text


def test_the_dockerfiles_differ_only_in_names_ports_and_descriptions():
    assert len({without_names(service) for service in SERVICES}) == 1


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_has_the_version_of_its_package_and_a_pinned_base(service):
    text = dockerfile(service)
    assert f"ARG VERSION={project(service)['version']}\n" in text
    bases = re.findall(r"^ARG PYTHON=(\S+)|^FROM (?!\$\{PYTHON\})(\S+)", text, re.MULTILINE)
    assert [PINNED.fullmatch(base or other) is not None for base, other in bases] == [True]


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_runs_its_service_without_a_shell_and_as_a_numeric_user(service):
    """No shell, so that SIGTERM reaches the service; a numeric user, so that Kubernetes sees that it is not root."""
    last_stage = dockerfile(service).rpartition("FROM ")[2]
    assert re.findall("^USER (.*)", last_stage, re.MULTILINE) == ["10001:10001"]
    assert f'\nENTRYPOINT ["python", "-m", "{SERVICES[service]}"]\n' in last_stage
    assert re.search(r"^HEALTHCHECK .*CMD \[", last_stage, re.MULTILINE)


def test_every_package_that_the_images_install_is_in_the_lock():
    """The lock constrains only the packages that it names, so it must name every package that the images need."""
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    members = {"touchpoint", *SERVICES}
    wanted, seen = {(name, "") for name in members} | {("hatchling", "")}, set[tuple[str, str]]()
    while wanted - seen:
        name, extra = sorted(wanted - seen)[0]
        seen.add((name, extra))
        for line in requires(name) or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                wanted |= {(canonicalize_name(needed.name), other) for other in {"", *needed.extras}}
    assert {name for name, _ in seen} - members <= locked


def test_the_build_context_contains_only_the_code_and_the_lock():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in lines if line and not line.startswith("#")) == "*"
    assert {line for line in lines if line.startswith("!")} == {"!requirements.lock", "!shared", "!services"}


@pytest.mark.parametrize(("problem", "code"), [(None, 0), ("Kafka does not answer", 1)])
async def test_the_health_check_prints_the_processs_problem_and_fails_with_it(problem, code, capsys, monkeypatch):
    async def check() -> str | None:
        return problem

    listening = listen("127.0.0.1", 0)
    monkeypatch.setenv("ADMIN_PORT", str(listening.getsockname()[1]))
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(admin_app({"kafka": check}), listening, 10, stop))
    try:
        assert await asyncio.to_thread(probe.main, "readyz") == code
        assert (problem or "ok") in capsys.readouterr().out
    finally:
        stop.set()
        await serving


def test_the_health_check_fails_if_no_process_listens(capsys, monkeypatch):
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("ADMIN_PORT", str(port))
    assert probe.main("healthz") == 1
    assert f"no answer at port {port}" in capsys.readouterr().out
