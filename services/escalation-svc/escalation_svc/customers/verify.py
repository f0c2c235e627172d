"""What `touchpoint verify` makes anew of customers and compares."""

from escalation_svc.customers.models import CUSTOMERS
from touchpoint.verify.subject import Effect

EFFECT = Effect.of(CUSTOMERS, CUSTOMERS.key)
