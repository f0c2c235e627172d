"""The interface of customers for other rooms: their attributes at a point of the log."""

from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncSession

from escalation_svc.customers.models import CUSTOMERS, KNOWN, Customer, CustomerKey
from touchpoint.contracts.touchpoints import CustomerUpdated

__all__ = ["KNOWN", "Customer", "Customers", "load", "save"]


class Customers:
    """The customers of one transaction."""

    def __init__(self, known: Iterable[Customer] = ()) -> None:
        self._known = {(customer.tenant_id, customer.customer_id): customer for customer in known}
        self.updated: dict[CustomerKey, Customer] = {}

    def get(self, tenant: str, customer_id: str | None) -> Customer | None:
        """The customer; None if it is unknown."""
        return self._known.get((tenant, customer_id)) if customer_id else None

    def update(self, event: CustomerUpdated) -> None:
        """Apply a `customer.updated` to its customer."""
        key = (event.meta.tenant, event.customer_id)
        customer = self._known.setdefault(key, Customer(*key))
        customer.update(event)
        self.updated[key] = customer


async def load(session: AsyncSession, keys: Iterable[CustomerKey]) -> Customers:
    """Load these customers; unknown ones are left out."""
    return Customers(await CUSTOMERS.load(session, keys))


async def save(session: AsyncSession, customers: Customers) -> None:
    """Store changed customers. All changes of a customer come from one partition, whose lock the caller holds."""
    await CUSTOMERS.upsert(session, customers.updated.values())
