"""API clients generated from the gateway's OpenAPI document, run against the gateway.

Python and TypeScript are part of every run; `make clients` (CLIENTS=all) tries all generators and the linters.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from touchpoint.testing import eventually
from touchpoint.testing.system import System

pytestmark = pytest.mark.servers

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCUMENTS = {
    name: ROOT / "services" / "gateway" / "gateway" / f"{name}.json" for name in ("openapi", "openapi_operations")
}
DOCUMENT = DOCUMENTS["openapi"]
ALL = os.environ.get("CLIENTS") == "all"
GENERATOR = "openapi-generator-cli==7.26.0"
PYTHON_CLIENT = "openapi-python-client==0.29.1"
OAPI_CODEGEN = "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2"

only_all = pytest.mark.skipif(not ALL, reason="a foreign language's tools: make clients")


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """A command's output; if the command fails, the test fails with the output."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def tool(package: str, *arguments: str | Path, folder: Path) -> None:
    """Run the command of a Python package, which has the package's name, in an environment of its own."""
    run(
        sys.executable,
        "-m",
        "uv",
        "tool",
        "run",
        "--from",
        package,
        package.partition("==")[0],
        *arguments,
        folder=folder,
    )


def generate(folder: Path, language: str, output: str, *options: str) -> None:
    """Run openapi-generator."""
    tool(GENERATOR, "generate", "-i", DOCUMENT, "-g", language, "-o", output, *options, folder=folder)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the npm packages of package-lock.json."""
    if missing := [name for name in ("node", "npm") if shutil.which(name) is None]:
        reason = f"{' and '.join(missing)} missing: no TypeScript client is tried (install Node.js 20 or newer)"
        pytest.fail(reason) if ALL else pytest.skip(reason)
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "tsconfig.json", ".spectral.yaml"):
        shutil.copy(HERE / name, folder)
    run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=folder)
    return folder


def npm(node: Path, command: str, *arguments: str | Path, folder: Path) -> None:
    """Run a command of an npm package, without telemetry and update checks."""
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    run(node / "node_modules" / ".bin" / command, *arguments, folder=folder, **quiet)


def compile_typescript(node: Path, folder: Path) -> None:
    """Check the types of the programs in a folder."""
    for name in ("package.json", "tsconfig.json"):
        shutil.copy(node / name, folder)
    (folder / "node_modules").symlink_to(node / "node_modules")
    npm(node, "tsc", "-p", ".", folder=folder)


@pytest.fixture
def tour(tmp_path: Path, system: System) -> Callable[..., Any]:
    """A function that prepares a tenant; it returns a function that runs a client's program and checks its output."""

    async def prepare(name: str) -> Callable[..., None]:
        key = await system.create_key(f"{name}-{tmp_path.name}"[:60].replace("_", "-"))
        case = await _seed(system.url, key)
        events = tmp_path / "events.json"
        events.write_text(json.dumps(_examples()))
        environment = {"TOUCHPOINT_URL": system.url, "TOUCHPOINT_API_KEY": key, "CASE": case, "EVENTS": str(events)}

        def check(*command: str | Path, folder: Path, **further: str) -> None:
            printed = run(*command, folder=folder, **environment, **further)
            assert json.loads(printed.splitlines()[-1]) == {
                "sent": len(_examples()),
                "batch": len(_examples()),
                "listed": 5,
                "state": "acknowledged",
                "problem": "urn:touchpoint:problem:already-resolved",
            }

        return check

    return prepare


def _examples() -> list[dict[str, Any]]:
    """One event of each type: the document's example."""
    schemas = json.loads(DOCUMENT.read_text())["components"]["schemas"]
    mapping = schemas["CloudEvent"]["discriminator"]["mapping"]
    return [
        schemas[reference.rpartition("/")[2]]["example"] | {"id": f"tour-{type}"} for type, reference in mapping.items()
    ]


async def _seed(url: str, key: str) -> str:
    """Store five pieces of feedback of the customer C-list and open a case; returns the case's id."""
    urgent = {"ticket_id": "T-urgent", "customer_id": "C-case", "channel": "email", "priority": "urgent"}
    events = [{"type": "ticket.opened", "id": "urgent", "data": urgent}]
    for number in range(5):
        remark = {"kind": "text", "channel": "web", "customer_id": "C-list", "text": f"Remark {number}"}
        events.append({"type": "feedback.submitted", "id": f"remark-{number}", "data": remark})
    batch = [{"specversion": "1.0", "source": "/seed"} | event for event in events]
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        headers = {"Content-Type": "application/cloudevents-batch+json"}
        sent = await client.post("/v1/batches", json=batch, headers=headers)
        assert sent.status_code == 202, sent.text
        cases: list[dict[str, Any]] = []

        async def seeded() -> bool:
            cases[:] = (await client.get("/v1/escalations?customer_id=C-case")).json()["items"]
            return bool(cases) and len((await client.get("/v1/feedback?customer_id=C-list")).json()["items"]) == 5

        await eventually(seeded, 60)
    return str(cases[0]["id"])


async def test_openapi_python_client(tour: Any, tmp_path: Path) -> None:
    tool(PYTHON_CLIENT, "generate", "--path", DOCUMENT, "--output-path", "client", "--meta", "setup", folder=tmp_path)
    check = await tour("python")
    check(
        sys.executable, HERE / "openapi-python-client" / "tour.py", folder=tmp_path, PYTHONPATH=str(tmp_path / "client")
    )


async def test_openapi_typescript(tour: Any, node: Path, tmp_path: Path) -> None:
    npm(node, "openapi-typescript", DOCUMENT, "-o", "schema.d.ts", folder=tmp_path)
    shutil.copy(HERE / "openapi-typescript" / "tour.ts", tmp_path)
    compile_typescript(node, tmp_path)
    check = await tour("typescript")
    check(node / "node_modules" / ".bin" / "tsx", "tour.ts", folder=tmp_path)


def test_the_readmes_request_bodies_match_the_generated_types(node: Path, tmp_path: Path) -> None:
    npm(node, "openapi-typescript", DOCUMENT, "-o", "schema.d.ts", folder=tmp_path)
    texts = re.findall(r"/v1/(events|feedback) .*?-d '(\{.*?\})'\n", (ROOT / "README.md").read_text(), re.DOTALL)
    assert [path for path, _ in texts] == ["feedback", "events"]
    types = {"feedback": "PlainFeedback", "events": "CloudEvent"}
    lines = ['import type { components } from "./schema";']
    for path, text in texts:
        body = re.sub(r"'\$\(.*?\)'", "2026-11-30T12:00:00Z", text)
        lines.append(f'export const {path}: components["schemas"]["{types[path]}"] = {body};')
    (tmp_path / "readme.ts").write_text("\n".join(lines))
    compile_typescript(node, tmp_path)


@only_all
async def test_openapi_generator_python(tour: Any, tmp_path: Path) -> None:
    generate(tmp_path, "python", "client")
    uv = (sys.executable, "-m", "uv", "run", "--no-project", "--with", str(tmp_path / "client"))
    check = await tour("og-python")
    check(*uv, "python", HERE / "openapi-generator-python" / "tour.py", folder=tmp_path)


@only_all
async def test_openapi_generator_typescript_fetch(tour: Any, node: Path, tmp_path: Path) -> None:
    generate(tmp_path, "typescript-fetch", "client", "--additional-properties=supportsES6=true")
    shutil.copy(HERE / "openapi-generator-typescript" / "tour.ts", tmp_path)
    compile_typescript(node, tmp_path)
    check = await tour("og-typescript")
    check(node / "node_modules" / ".bin" / "tsx", "tour.ts", folder=tmp_path)


@only_all
async def test_oapi_codegen(tour: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(HERE / "oapi-codegen", tmp_path / "tour")
    (folder / "api").mkdir()
    run("go", "run", OAPI_CODEGEN, "-config", "config.yaml", DOCUMENT, folder=folder)
    run("go", "mod", "tidy", folder=folder)
    check = await tour("oapi-codegen")
    check("go", "run", ".", folder=folder)


@only_all
async def test_openapi_generator_go(tour: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(HERE / "openapi-generator-go", tmp_path / "tour")
    names = ("--git-user-id", "touchpoint", "--git-repo-id", "client")
    options = "--additional-properties=enumClassPrefix=true,useOneOfDiscriminatorLookup=true,packageName=touchpoint"
    generate(folder, "go", "client", options, *names)
    run("go", "mod", "tidy", folder=folder)
    check = await tour("og-go")
    check("go", "run", ".", folder=folder)


@only_all
async def test_openapi_generator_java(tour: Any, tmp_path: Path) -> None:
    generate(tmp_path, "java", "client", "--library", "native")
    client = tmp_path / "client"
    shutil.copy(HERE / "openapi-generator-java" / "Tour.java", client / "src" / "main" / "java")
    plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:build-classpath"
    run("mvn", "-q", "-B", "compile", plugin, "-Dmdep.outputFile=classpath.txt", folder=client)
    check = await tour("og-java")
    classes = f"target/classes:{(client / 'classpath.txt').read_text()}"
    check("java", "-cp", classes, "Tour", folder=client)


@only_all
@pytest.mark.parametrize("document", DOCUMENTS)
def test_linters_find_nothing(node: Path, document: str) -> None:
    npm(node, "spectral", "lint", "--fail-severity", "warn", DOCUMENTS[document], folder=node)
    npm(node, "redocly", "lint", DOCUMENTS[document], folder=node)
