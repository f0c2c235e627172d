"""The metrics of the gateway, as its rooms name them. No tenant or customer is a label."""

from gateway.door.telemetry import BODY_BYTES, LIMITED
from gateway.idempotency.telemetry import REPEATED
from gateway.ingest.telemetry import ACCEPTED, REFUSED

__all__ = ["ACCEPTED", "BODY_BYTES", "LIMITED", "REFUSED", "REPEATED"]
