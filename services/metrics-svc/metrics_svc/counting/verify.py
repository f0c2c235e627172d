"""How `touchpoint verify` compares stored counts with counts recomputed from the log."""

from metrics_svc.counting import models
from touchpoint.verify.subject import Effect

# Which partition's row a duration is in depends on the order in which partitions are read; the sum over them does not.
ROLLUPS = Effect(
    "rollups",
    ("tenant_id", "metric", "quarter", "scale", "channel", "segment", "tier", "bucket"),
    """
    SELECT tenant_id, metric, quarter, scale, channel, segment, tier, bucket,
           concat('n=', sum(n), ' total=', sum(total)) AS row
      FROM {tables}.rollups
     GROUP BY tenant_id, metric, quarter, scale, channel, segment, tier, bucket
    HAVING sum(n) <> 0 OR sum(total) <> 0
    """,
    shown=True,
)
CHANGES = Effect.of(models.CHANGES, ("tenant_id", "customer_id", "event_id"), per_event=True)
ANSWERS = Effect.of(models.ANSWERS, ("tenant_id", "customer_id", "event_id"))
TICKETS = Effect.of(models.TICKETS, models.TICKETS.key)
