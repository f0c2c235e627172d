"""How `touchpoint verify` compares stored cases with cases recomputed from the log and from our own events."""

from escalation_svc.cases.models import CASES
from touchpoint.verify.subject import Effect

EFFECT = Effect.decisions(CASES, "case_version")
