"""The ledger of erased customers: what is read again from the log must not bring them back."""

from collections.abc import Collection

import asyncpg

Customer = tuple[str, str]
"""A tenant and its customer."""


async def hold(raw: asyncpg.Connection) -> None:
    """Until this transaction ends nobody is erased: whoever erases waits, and then finds what this one has written."""
    await raw.execute("LOCK TABLE erasures IN SHARE MODE")


async def among(raw: asyncpg.Connection, customers: Collection[Customer]) -> set[Customer]:
    """Which of these are erased."""
    if not customers:
        return set()
    rows = await raw.fetch(
        "SELECT tenant_id, customer_id FROM erasures "
        "JOIN unnest($1::text[], $2::text[]) AS asked (tenant_id, customer_id) USING (tenant_id, customer_id)",
        *map(list, zip(*sorted(customers), strict=True)),
    )
    return {(row["tenant_id"], row["customer_id"]) for row in rows}


async def count(raw: asyncpg.Connection) -> int:
    """How many were ever erased."""
    found: int = await raw.fetchval("SELECT count(*) FROM erasures")
    return found


async def note(raw: asyncpg.Connection, customer: Customer, by: str, reason: str) -> None:
    """Take a customer down as erased, before deleting what there is of them; doing it again changes nothing."""
    await raw.execute(
        "INSERT INTO erasures (tenant_id, customer_id, by, reason) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        *customer, by, reason,
    )  # fmt: skip
