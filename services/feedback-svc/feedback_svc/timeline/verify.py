"""How `touchpoint verify` compares stored timelines with timelines recomputed from the log."""

from feedback_svc.timeline.models import TIMELINE
from touchpoint.verify.subject import Effect

EFFECT = Effect.of(TIMELINE, ("tenant_id", "id"), per_event=True)
