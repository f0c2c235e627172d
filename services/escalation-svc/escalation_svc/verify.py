"""What `touchpoint verify` recomputes from the log for escalation-svc and compares with its tables."""

from escalation_svc.cases.handlers import with_policies
from escalation_svc.cases.verify import EFFECT as CASES
from escalation_svc.clocks.verify import CLOCKS, FIRINGS
from escalation_svc.config import NAME, PolicySettings
from escalation_svc.customers.verify import EFFECT as CUSTOMERS
from escalation_svc.policies.service import load
from touchpoint.verify.subject import Subject


def subject() -> Subject:
    """The tables of escalation-svc and how to recompute them with the current policies."""
    handlers = with_policies(load(PolicySettings().policies_path))
    return Subject(NAME, handlers, (CUSTOMERS, CLOCKS, FIRINGS, CASES))
