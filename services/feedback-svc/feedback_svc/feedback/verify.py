"""What `touchpoint verify` makes anew of feedback and compares."""

from touchpoint.verify.subject import Effect

FEEDBACK = Effect(
    "feedback",
    ("tenant_id", "id"),
    "SELECT tenant_id, id, feedback::text AS row FROM {tables}.feedback",
    per_event=True,
)
