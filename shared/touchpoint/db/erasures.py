"""The table of erased customers: replaying the log must not restore their data."""

from collections.abc import Collection

import asyncpg

Customer = tuple[str, str]
"""Tenant and customer id."""


async def hold(raw: asyncpg.Connection) -> None:
    """Block erasures until this transaction ends; a waiting erasure then also deletes the rows this one wrote."""
    await raw.execute("LOCK TABLE erasures IN SHARE MODE")


async def among(raw: asyncpg.Connection, customers: Collection[Customer]) -> set[Customer]:
    """Those of the customers that were erased."""
    if not customers:
        return set()
    rows = await raw.fetch(
        "SELECT tenant_id, customer_id FROM erasures "
        "JOIN unnest($1::text[], $2::text[]) AS asked (tenant_id, customer_id) USING (tenant_id, customer_id)",
        *map(list, zip(*sorted(customers), strict=True)),
    )
    return {(row["tenant_id"], row["customer_id"]) for row in rows}


async def count(raw: asyncpg.Connection) -> int:
    """The number of erased customers."""
    number: int = await raw.fetchval("SELECT count(*) FROM erasures")
    return number


async def note(raw: asyncpg.Connection, customer: Customer, by: str, reason: str) -> None:
    """Record a customer as erased, before their rows are deleted. Idempotent."""
    await raw.execute(
        "INSERT INTO erasures (tenant_id, customer_id, by, reason) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        *customer, by, reason,
    )  # fmt: skip
