"""What `touchpoint verify` decides anew of clocks and compares.

A clock's ending is not compared: time decides it, not the log alone. Its terms are those of the policies in force when
its ticket was read.
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
    """,
)
