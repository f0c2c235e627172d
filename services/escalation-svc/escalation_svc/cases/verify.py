"""What `touchpoint verify` decides anew of cases and compares.

A case's state is not compared: people have changed it since, not the log.
"""

from touchpoint.verify.subject import Effect

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
