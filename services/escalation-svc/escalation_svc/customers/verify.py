"""What `touchpoint verify` makes anew of customers and compares."""

from touchpoint.verify.subject import Effect

CUSTOMERS = Effect(
    "customers",
    ("tenant_id", "customer_id"),
    "SELECT tenant_id, customer_id, to_jsonb(customers)::text AS row FROM {tables}.customers",
)
