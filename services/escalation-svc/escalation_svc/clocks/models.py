"""The table of clocks."""

from escalation_svc.clocks.decisions import Clock
from touchpoint.db.tables import Table

CLOCKS = Table("clocks", Clock, key=("tenant_id", "clock_id"), computed=("topic", "partition", "wake_at"))
