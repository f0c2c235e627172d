"""What the environment tells escalation-svc."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from touchpoint.base.settings import ConsumingSettings

NAME = "escalation-svc"
SHIPPED = Path(__file__).with_name("policies") / "policies.yaml"


class PolicySettings(BaseSettings):
    """Where the policies are: read before the rest, because the handlers are made of them."""

    policies_path: Path = Field(SHIPPED, description="policy file, YAML; the one that is shipped by default")


class Settings(PolicySettings, ConsumingSettings):
    """The settings every consuming service has, on this service's ports, and the timer's."""

    port: int = Field(8082, description="port of the API", ge=0, le=65535)
    admin_port: int = Field(9082, description="port of /healthz, /readyz and /metrics", ge=0, le=65535)
    timer_seconds: float = Field(0.5, description="how often the worker looks for clocks that ran out", gt=0, le=60)
