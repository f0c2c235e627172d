"""What `touchpoint verify` decides anew of this service and compares.

What time and people have done since is theirs, not the log's: a case's state, a clock's ending. A clock's terms are
those of the policies in force when its ticket was read.
"""

from escalation_svc.app import NAME
from escalation_svc.config import PolicySettings
from escalation_svc.handlers import with_policies
from escalation_svc.policies import load
from touchpoint.verify.subject import Effect, Subject

CUSTOMERS = Effect(
    "customers",
    ("tenant_id", "customer_id"),
    "SELECT tenant_id, customer_id, to_jsonb(customers)::text AS row FROM {tables}.customers",
)
CLOCKS = Effect(
    "clocks",
    ("tenant_id", "clock_id"),
    """
    SELECT tenant_id, clock_id,
           concat_ws(' ', ticket_id,
                     (SELECT jsonb_agg(step - 'terms') FROM jsonb_array_elements(history) AS step)) AS row
      FROM {tables}.clocks
    """,
)
# Time alone can open a case, too: then the ticket's clock has run out.
CASES = Effect(
    "cases",
    ("tenant_id", "escalation_id"),
    """
    SELECT tenant_id, escalation_id,
           concat_ws(' ', customer_id, reason, policy, feedback_id, ticket_id, opened_at, recorded_at) AS row
      FROM {tables}.escalations
    """,
    besides="""
    SELECT tenant_id, escalation_id,
           concat_ws(' ', customer_id, reason, policy, feedback_id, ticket_id, opened_at, recorded_at) AS row
      FROM {stored}.escalations
     WHERE EXISTS (
       SELECT FROM {stored}.clocks
        WHERE clocks.tenant_id = escalations.tenant_id AND clocks.ticket_id = escalations.ticket_id
          AND clocks.state = 'breached'
     )
    """,
)


def subject() -> Subject:
    """This service, with the policies it has now."""
    handlers = with_policies(load(PolicySettings().policies_path))
    return Subject(NAME, handlers, ("customers", "clocks", "escalations"), (CUSTOMERS, CLOCKS, CASES))
