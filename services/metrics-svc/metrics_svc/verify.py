"""What `touchpoint verify` counts anew of this service and compares."""

from metrics_svc.app import NAME
from metrics_svc.handlers import handlers
from touchpoint.verify.subject import Effect, Subject

# Which partition's row a duration is in depends on the order in which partitions are read; the sum over them does not.
ROLLUPS = Effect(
    "rollups",
    ("tenant_id", "metric", "hour", "scale", "channel", "segment", "tier", "bucket"),
    """
    SELECT tenant_id, metric, hour, scale, channel, segment, tier, bucket,
           concat('n=', sum(n), ' total=', sum(total)) AS row
      FROM {tables}.rollups
     GROUP BY tenant_id, metric, hour, scale, channel, segment, tier, bucket
    HAVING sum(n) <> 0 OR sum(total) <> 0
    """,
    shown=True,
)
CUSTOMERS = Effect(
    "customers",
    ("tenant_id", "customer_id"),
    "SELECT tenant_id, customer_id, customers::text AS row FROM {tables}.customers",
)
TICKETS = Effect(
    "tickets",
    ("tenant_id", "ticket_id"),
    "SELECT tenant_id, ticket_id, tickets::text AS row FROM {tables}.tickets",
)


def subject() -> Subject:
    """This service."""
    return Subject(NAME, handlers, ("rollups", "customers", "tickets"), (ROLLUPS, CUSTOMERS, TICKETS))
