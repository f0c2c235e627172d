"""What `touchpoint verify` counts anew and compares."""

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
CHANGES = Effect(
    "changes",
    ("tenant_id", "customer_id", "event_id"),
    "SELECT tenant_id, customer_id, event_id, changes::text AS row FROM {tables}.changes",
    per_event=True,
)
ANSWERS = Effect(
    "answers",
    ("tenant_id", "customer_id", "event_id"),
    "SELECT tenant_id, customer_id, event_id, answers::text AS row FROM {tables}.answers",
)
TICKETS = Effect(
    "tickets",
    ("tenant_id", "ticket_id"),
    """
    SELECT tenant_id, ticket_id, concat_ws(' ', opened_at, recorded_at, event_id, customer_id, channel, segment, tier,
                                           replies, solutions) AS row
      FROM {tables}.tickets
    """,
)
