"""Write what is generated: JSON Schemas and AsyncAPI of the events, OpenAPI of the gateway, metrics, settings.

`python docs/generate.py` writes, and refuses a change that would break a contract; `--check` writes nothing and exits
with 1 when a file is stale or a contract broken (CI).
"""

import json
import sys
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import Counter, Gauge, Histogram, Info
from pydantic_settings import BaseSettings

from gateway import openapi
from touchpoint.base.bulk import BulkHistogram
from touchpoint.base.settings import ConsumingSettings, KafkaSettings, ServiceSettings
from touchpoint.contracts.base import REGISTRY
from touchpoint.contracts.compatibility import breaks
from touchpoint.contracts.schema import asyncapi, file_name, json_schema
from touchpoint.db.engine import create_engine
from touchpoint.testing import modules

ROOT = Path(__file__).parents[1]
EVENTS = ROOT / "docs" / "events"
OPENAPI = ROOT / "services" / "gateway" / "gateway" / "openapi.json"
OPERATIONS = OPENAPI.with_name("openapi_operations.json")
"""Parts of the gateway's package: it serves the documents."""

METRICS = ROOT / "docs" / "metrics.md"

SETTINGS = ROOT / "docs" / "settings.md"

RULES = ROOT / "deploy" / "prometheus" / "rules"
PROMETHEUS_RULE = ROOT / "deploy" / "k8s" / "base" / "prometheus-rule.yaml"
"""The same rules, as Prometheus' operator takes them."""

SERVICES = {"feedback-svc": "feedback_svc", "escalation-svc": "escalation_svc", "metrics-svc": "metrics_svc"}

TELEMETRY = {
    "touchpoint.base": "Every process, its consumer, its worker",
    "gateway": "gateway",
    "feedback_svc": "feedback-svc",
    "escalation_svc": "escalation-svc",
    "metrics_svc": "metrics-svc",
}
SETTINGS_INTRODUCTION = """\
# Settings

Generated from the settings classes by `make docs`. A process reads them from its environment and exits with code 2
and a message that names the variable when a value is invalid. `.env.example` and `deploy/k8s/base` have examples.
"""
METRICS_INTRODUCTION = """\
# Metrics

Generated from the code by `make docs`. Every process serves them at `/metrics` of its admin port; how to have them
scraped, and the labels `service` and `role` that the scrape adds, is in [observability](observability.md).

Units are base units, counters end in `_total`, and no tenant and no customer is a label: the number of series depends
on partitions, routes and tables, not on who uses Touchpoint. Scores and open cases are shown of the tenants that the
workers' setting `BUSINESS_TENANTS='["acme"]'` names, twenty at most; by default of none.

The metrics of a service's *workers* (lag, dead letters, outbox, replays, tables) describe the whole service, and each
worker reports the same values: use `max`, not `sum`. The gateway has no worker: each of its processes measures its
tables.

Every process also has the standard metrics `process_*` and `python_*`.
"""


def documents() -> dict[Path, str]:
    """Every generated file and its text, the same on every machine."""
    schemas = {EVENTS / file_name(event): _json(json_schema(event)) for event in REGISTRY.values()}
    services = {name: _api(package) for name, package in SERVICES.items()}
    return schemas | {
        EVENTS / "asyncapi.yaml": _yaml(asyncapi()),
        OPENAPI: _json(openapi.merge(services)),
        OPERATIONS: _json(openapi.operations(services["feedback-svc"])),
        PROMETHEUS_RULE: "# Written by docs/generate.py from deploy/prometheus/rules.\n" + _yaml(_prometheus_rule()),
        METRICS: _metrics(),
        SETTINGS: _settings(),
    }


def _prometheus_rule() -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "touchpoint"},
        "spec": {"groups": [group for path in sorted(RULES.glob("*.yml")) for group in _groups(path)]},
    }


def _groups(path: Path) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load(path.read_text())["groups"]
    return groups


def _api(package: str) -> dict[str, Any]:
    """A service's OpenAPI document; the application is built without a connection to any server."""
    nowhere = "postgresql:///unused"
    settings = import_module(f"{package}.config").Settings(database_url=nowhere, internal_token_secrets=["unused" * 6])
    app = import_module(f"{package}.app").create_app(settings, create_engine(nowhere, "docs"))
    document: dict[str, Any] = app.openapi()
    return document


def _metrics() -> str:
    """All metrics, by the process that exports them."""
    parts = [METRICS_INTRODUCTION]
    for package, title in TELEMETRY.items():
        lines = [
            _metric(each)
            for module in modules(package, "telemetry")
            for each in vars(module).values()
            if isinstance(each, Counter | Gauge | Histogram | Info | BulkHistogram)
        ]
        parts.append("\n".join([f"## {title}", "| metric | kind | labels | |", "|---|---|---|---|", *lines, ""]))
    return "\n".join(parts)


def _metric(metric: Any) -> str:
    [family] = metric.describe()
    name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)
    return f"| `{name}` | {family.type} | {labels} | {family.documentation} |"


def _settings() -> str:
    """All environment variables, by the process that reads them."""
    parts = [SETTINGS_INTRODUCTION, _table("Every process", ServiceSettings, without={"kafka", "port", "admin_port"})]
    parts.append(_table("Kafka, every process", KafkaSettings, prefix="KAFKA_"))
    parts.append(_table("feedback-svc, escalation-svc, metrics-svc", ConsumingSettings, of=ServiceSettings))
    for name, package in {"gateway": "gateway", **SERVICES}.items():
        own = import_module(f"{package}.config").Settings
        of = ServiceSettings if name == "gateway" else ConsumingSettings
        parts.append(_table(name, own, of=of, beside={"port", "admin_port"}))
    return "\n".join(parts)


def _table(
    title: str,
    settings: type[BaseSettings],
    *,
    prefix: str = "",
    of: type[BaseSettings] = BaseSettings,
    beside: Collection[str] = (),
    without: Collection[str] = (),
) -> str:
    """Settings of a class that its base class lacks, and those in `beside`; without those in `without`."""
    schema = settings.model_json_schema()
    fields = {name: field for name, field in schema["properties"].items() if name not in without}
    own = [name for name in fields if name in beside or name not in of.model_fields]
    lines = [_setting(f"{prefix}{name}".upper(), fields[name], name in schema.get("required", ())) for name in own]
    return "\n".join([f"## {title}", "| variable | values | default | |", "|---|---|---|---|", *lines, ""])


def _setting(name: str, field: dict[str, Any], required: bool) -> str:
    secret = field.get("format") == "password"
    default = "**required**" if required else "" if secret else _default(field.get("default"))
    return f"| `{name}` | {_values(field)} | {default} | {field['description']} |"


def _default(value: object) -> str:
    if value in (None, "", []):
        return ""
    relative = str(value).removeprefix(f"{ROOT}/")
    return f"`{relative}`"


def _values(field: dict[str, Any]) -> str:
    """The type and range of a setting's values."""
    [kind_schema] = [each for each in field.get("anyOf", [field]) if each.get("type") != "null"]
    if "enum" in kind_schema:
        return ", ".join(f"`{value}`" for value in kind_schema["enum"])
    kind = {"string": "text", "array": "JSON list"}.get(kind_schema["type"], kind_schema["type"])
    least = kind_schema.get("minimum", kind_schema.get("exclusiveMinimum"))
    if least is None:
        return {"password": "secret", "uri": "URL", "path": "path"}.get(kind_schema.get("format", ""), kind)
    above = "above " if "exclusiveMinimum" in kind_schema else "from "
    return f"{kind} {above}{least}" + (f" to {kind_schema['maximum']}" if "maximum" in kind_schema else "")


def broken_contracts(events: Path = EVENTS) -> list[str]:
    """Changes of the code that would break the committed contracts."""
    now = {file_name(event): json_schema(event) for event in REGISTRY.values()}
    problems = []
    for path in sorted(events.glob("*.json")):
        if path.name not in now:
            problems.append(f"{path.name}: the event type is gone; a published type stays")
            continue
        problems += [f"{path.name}: {why}" for why in breaks(json.loads(path.read_text()), now[path.name])]
    return problems


def stale() -> dict[Path, str]:
    """The generated files that are missing or differ, and their texts."""
    return {path: text for path, text in documents().items() if not path.exists() or path.read_text() != text}


def main(arguments: list[str]) -> int:
    """Write or check; returns the exit code."""
    problems = broken_contracts()
    if not problems:
        if arguments == ["--check"]:
            problems = [f"{path.relative_to(ROOT)} is stale: run make docs" for path in stale()]
        else:
            for path, text in stale().items():
                path.write_text(text)
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return 1 if problems else 0


def _json(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _yaml(document: Any) -> str:
    return yaml.dump(document, Dumper=_WithoutAnchors, sort_keys=False, allow_unicode=True, width=120)


class _WithoutAnchors(yaml.SafeDumper):
    """YAML without `&id001` references, and with lines as lines: readers of the document compare text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_WithoutAnchors.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
