"""The table of customers: the attributes that policies can test, stored from `customer.updated`."""

from dataclasses import dataclass, field, fields
from decimal import Decimal

from touchpoint.contracts.order import Latest, newest_fields
from touchpoint.contracts.touchpoints import CustomerUpdated
from touchpoint.db.tables import Table

CustomerKey = tuple[str, str]
"""Tenant id and customer id."""


@dataclass(slots=True)
class Customer:
    """A customer's latest attributes. A field that no `customer.updated` has given is None."""

    tenant_id: str
    customer_id: str
    account_id: str | None = None
    tier: str | None = None
    segment: str | None = None
    owner: str | None = None
    region: str | None = None
    lifecycle_stage: str | None = None
    annual_recurring_revenue: Decimal | None = None
    currency: str | None = None
    latest: Latest = field(default_factory=dict)
    """By field: the event that set it (`touchpoint.contracts.order`)."""

    def update(self, event: CustomerUpdated) -> None:
        """Set the fields that the event gives, except those a later event has set; null clears a field."""
        for name in newest_fields(self.latest, event, KNOWN):
            setattr(self, name, getattr(event, name))


KNOWN = frozenset(field.name for field in fields(Customer)) - {"tenant_id", "customer_id", "latest"}

CUSTOMERS = Table("customers", Customer, key=("tenant_id", "customer_id"))
