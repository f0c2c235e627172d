"""How `touchpoint verify` compares stored clocks with clocks recomputed from the log and from our own events.

A clock's state is not compared, because it also depends on the timer; what the timer has published is compared. Its
terms are not compared, because they come from the policies in force when its ticket was consumed.
"""

from touchpoint.verify.subject import Effect

CLOCKS = Effect(
    "clocks",
    ("tenant_id", "clock_id"),
    """
    SELECT tenant_id, clock_id,
           concat_ws(' ', ticket_id,
                     (SELECT jsonb_agg(step - 'terms') FROM jsonb_array_elements(history) AS step)) AS row
      FROM {tables}.clocks
     WHERE history <> '[]'
    """,
)

FIRINGS = Effect(
    "firings",
    ("tenant_id", "clock_id", "event_id"),
    """
    SELECT tenant_id, clock_id, firing->>'event_id' AS event_id, firing::text AS row, 1 AS version
      FROM {tables}.clocks, LATERAL jsonb_array_elements(fired) AS firing
    """,
    table="clocks",
    decided=True,
)
