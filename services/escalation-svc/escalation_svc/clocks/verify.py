"""How `touchpoint verify` compares stored clocks with clocks recomputed from the log.

A clock's state is not compared, because it also depends on the timer. Its terms are not compared, because they come
from the policies in force when its ticket was consumed.
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
