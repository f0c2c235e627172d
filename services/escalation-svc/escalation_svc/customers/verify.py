"""How `touchpoint verify` compares stored customers with customers recomputed from the log."""

from escalation_svc.customers.models import CUSTOMERS
from touchpoint.verify.subject import Effect

EFFECT = Effect.of(CUSTOMERS, CUSTOMERS.key)
