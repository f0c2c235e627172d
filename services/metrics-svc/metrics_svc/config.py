"""What the environment tells metrics-svc."""

from pydantic import Field

from touchpoint.base.settings import ConsumingSettings

NAME = "metrics-svc"


class Settings(ConsumingSettings):
    """The settings every consuming service has, on this service's ports."""

    port: int = Field(8083, description="port of the API", ge=0, le=65535)
    admin_port: int = Field(9083, description="port of /healthz, /readyz and /metrics", ge=0, le=65535)
