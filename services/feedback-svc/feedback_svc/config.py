"""Settings of feedback-svc, read from environment variables."""

from pydantic import Field

from touchpoint.base.settings import ConsumingSettings

NAME = "feedback-svc"


class Settings(ConsumingSettings):
    """The settings of every consuming service, with this service's default ports."""

    port: int = Field(8081, description="port of the API", ge=0, le=65535)
    admin_port: int = Field(9081, description="port of /healthz, /readyz and /metrics", ge=0, le=65535)
