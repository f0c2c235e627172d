"""How `touchpoint verify` compares stored cases with cases recomputed from the log.

The state of a case is not compared: people change it through the API, so it does not follow from the log.
"""

from touchpoint.verify.subject import Effect

# A breach by the timer opens a case that does not follow from the log. `besides` accepts cases of breached tickets.
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
    table="escalations",
)
