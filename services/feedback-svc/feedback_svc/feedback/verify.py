"""How `touchpoint verify` compares stored feedback with feedback recomputed from the log."""

from feedback_svc.feedback.models import FEEDBACK
from touchpoint.verify.subject import Effect

EFFECT = Effect.of(FEEDBACK, ("tenant_id", "id"), per_event=True)
