"""docker-compose.yml as data, and the settings that each service reads."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from touchpoint.base.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
SERVICES = {
    "gateway": "gateway",
    "feedback-svc": "feedback_svc",
    "escalation-svc": "escalation_svc",
    "metrics-svc": "metrics_svc",
}
"""The package of each service."""

PINNED = re.compile(r"[\w./-]+(:\d+)?/?[\w./-]*:v?\d+\.\d+(\.\d+)?[\w.-]*|.+@sha256:[0-9a-f]{64}")
"""An image with a tag of at least major and minor version, or with a digest."""


def settings_class(service: str) -> type[ServiceSettings]:
    """The settings class of a service."""
    settings: type[ServiceSettings] = import_module(f"{SERVICES[service]}.config").Settings
    return settings


def environment_names(service: str) -> set[str]:
    """The environment variables that the service reads."""
    return set(_names(settings_class(service)))


def _names(settings: type[Any]) -> Iterator[str]:
    prefix = settings.model_config.get("env_prefix", "")
    for name, field in settings.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and hasattr(nested, "model_fields"):
            yield from _names(nested)
        else:
            yield f"{prefix}{name}".upper()


def compose(**environment: str) -> dict[str, Any]:
    """docker-compose.yml with its variables filled in: given values, else the defaults, or `x…` for required ones."""

    def value(match: re.Match[str]) -> str:
        name, kind, default = match.groups()
        return environment.get(name, default if kind == ":-" else "x" * 32)

    text = (ROOT / "docker-compose.yml").read_text()
    document: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", value, text))
    return document
