"""Names of log events about API keys."""

KEYS_UNREACHABLE = "gateway.keys_unreachable"
