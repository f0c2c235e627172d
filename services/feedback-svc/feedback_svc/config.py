"""What the environment tells feedback-svc."""

from pydantic import Field

from touchpoint.base.settings import ConsumingSettings

NAME = "feedback-svc"


class Settings(ConsumingSettings):
    """The settings every consuming service has, on this service's ports."""

    port: int = Field(8081, description="port of the API", ge=0, le=65535)
    admin_port: int = Field(9081, description="port of /healthz, /readyz and /metrics", ge=0, le=65535)
