"""What `touchpoint verify` makes anew of the timelines and compares."""

from touchpoint.verify.subject import Effect

TIMELINE = Effect(
    "timeline",
    ("tenant_id", "id"),
    "SELECT tenant_id, id, timeline::text AS row FROM {tables}.timeline",
    per_event=True,
)
