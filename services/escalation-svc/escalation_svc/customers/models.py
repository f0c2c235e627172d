"""What the service knows of a customer: enough for policies to ask about, kept from `customer.updated`."""

from dataclasses import dataclass, field, fields
from decimal import Decimal

from touchpoint.contracts.order import Latest, newest_fields
from touchpoint.contracts.touchpoints import CustomerUpdated
from touchpoint.db.tables import Table

CustomerKey = tuple[str, str]
"""Tenant and customer."""


@dataclass(slots=True)
class Customer:
    """A customer by the latest `customer.updated` that were read; a field that none gave is None."""

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
    """Which event each field is from (`touchpoint.contracts.order`)."""

    def update(self, event: CustomerUpdated) -> None:
        """Take over the fields the event gives, and only those, unless a later event gave them; null clears."""
        for name in newest_fields(self.latest, event, KNOWN):
            setattr(self, name, getattr(event, name))


KNOWN = frozenset(field.name for field in fields(Customer)) - {"tenant_id", "customer_id", "latest"}

CUSTOMERS = Table("customers", Customer, key=("tenant_id", "customer_id"))
