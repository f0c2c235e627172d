"""Names of log events about what became of events."""

OFFSETS_UNREACHABLE = "gateway.offsets_unreachable"
