"""Names of log events about the services behind the gateway."""

SERVICE_UNREACHABLE = "gateway.service_unreachable"
ANSWER_BROKEN = "gateway.answer_broken"
