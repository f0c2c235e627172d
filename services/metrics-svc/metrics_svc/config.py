"""Settings of metrics-svc, read from environment variables."""

from pydantic import Field

from touchpoint.base.settings import ConsumingSettings

NAME = "metrics-svc"


class Settings(ConsumingSettings):
    """The settings of every consuming service, with this service's default ports."""

    port: int = Field(8083, description="port of the API", ge=0, le=65535)
    admin_port: int = Field(9083, description="port of /healthz, /readyz and /metrics", ge=0, le=65535)
