"""What `touchpoint verify` makes anew of the timelines and compares."""

from feedback_svc.timeline.models import TIMELINE
from touchpoint.verify.subject import Effect

EFFECT = Effect.of(TIMELINE, ("tenant_id", "id"), per_event=True)
