"""Rows of customers in and out of PostgreSQL, in sets."""

import json
from collections.abc import Iterable
from dataclasses import fields

from sqlalchemy.ext.asyncio import AsyncSession

from escalation_svc.customers.models import Customer, CustomerKey
from touchpoint.db.engine import raw_connection

CUSTOMER_COLUMNS = tuple(field.name for field in fields(Customer) if field.name != "latest")

LOAD_CUSTOMERS = """
SELECT tenant_id, customer_id, account_id, tier, segment, owner, region, lifecycle_stage,
       annual_recurring_revenue, currency, latest
  FROM customers JOIN unnest($1::text[], $2::text[]) AS wanted (tenant_id, customer_id) USING (tenant_id, customer_id)
"""
SAVE_CUSTOMERS = """
INSERT INTO customers (
    tenant_id, customer_id, account_id, tier, segment, owner, region, lifecycle_stage,
    annual_recurring_revenue, currency, latest
)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::numeric[], $10::text[], $11::jsonb[]
)
ON CONFLICT (tenant_id, customer_id) DO UPDATE SET
    account_id = excluded.account_id, tier = excluded.tier, segment = excluded.segment, owner = excluded.owner,
    region = excluded.region, lifecycle_stage = excluded.lifecycle_stage,
    annual_recurring_revenue = excluded.annual_recurring_revenue, currency = excluded.currency, latest = excluded.latest
"""


async def load_customers(session: AsyncSession, keys: Iterable[CustomerKey]) -> dict[CustomerKey, Customer]:
    """Those of the customers that are known."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    raw = await raw_connection(session)
    rows = await raw.fetch(LOAD_CUSTOMERS, *map(list, zip(*wanted, strict=True)))
    return {(row["tenant_id"], row["customer_id"]): Customer(**row) for row in rows}


async def save_customers(session: AsyncSession, customers: Iterable[Customer]) -> None:
    """Store customers as they are now. The changes of one customer come by one partition: the caller holds its lock."""
    rows = [
        (*(getattr(customer, name) for name in CUSTOMER_COLUMNS), json.dumps(customer.latest)) for customer in customers
    ]
    if rows:
        raw = await raw_connection(session)
        await raw.execute(SAVE_CUSTOMERS, *map(list, zip(*sorted(rows, key=lambda row: row[:2]), strict=True)))
