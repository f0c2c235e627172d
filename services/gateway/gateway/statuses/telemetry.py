"""Names of log events about statuses of events."""

OFFSETS_UNREACHABLE = "gateway.offsets_unreachable"
