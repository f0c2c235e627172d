"""Settings of escalation-svc, read from environment variables."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from touchpoint.base.settings import ConsumingSettings

NAME = "escalation-svc"
SHIPPED = Path(__file__).with_name("policies") / "policies.yaml"


class PolicySettings(BaseSettings):
    """The path of the policy file. It is read before the other settings, because the handlers need the policies."""

    policies_path: Path = Field(
        SHIPPED, description="path of the policy file (YAML); by default the one in the package"
    )


class Settings(PolicySettings, ConsumingSettings):
    """The settings of every consuming service, with this service's default ports, and those of the timer."""

    port: int = Field(8082, description="port of the API", ge=0, le=65535)
    admin_port: int = Field(9082, description="port of /healthz, /readyz and /metrics", ge=0, le=65535)
    timer_seconds: float = Field(
        0.5, description="seconds between two runs of the worker's timer, which fires due clocks", gt=0, le=60
    )
