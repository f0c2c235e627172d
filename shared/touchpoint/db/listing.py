"""Keyset pagination of a tenant's rows, newest first: stable while rows are added, and equally fast on every page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from touchpoint.db.tables import Table
from touchpoint.db.tenants import Tenants

R = TypeVar("R")


@dataclass(frozen=True)
class Selection:
    """The filter and the page of a list."""

    limit: int
    after: tuple[datetime, UUID] | None = None
    """Time and id of the last row of the previous page; None for the first page."""
    equal: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """By column: the accepted values; an empty list accepts all."""
    compared: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    """By column and operator (`>=`, `<=`, `<`): the bound; None is no bound."""
    since: datetime | None = None
    """Rows from this time (inclusive) to `until` (exclusive)."""
    until: datetime | None = None

    def where(self, **equal: Any) -> "Selection":
        """This selection, restricted to rows whose columns have these values."""
        return replace(self, equal={**self.equal, **{name: [value] for name, value in equal.items()}})


class Listing(Generic[R]):
    """A table's rows of one tenant, ordered by a time column, and by an id column for equal times."""

    def __init__(self, table: Table[R], moment: str, row_id: str) -> None:
        self.table = table
        self.order = moment, row_id
        self._select = f"SELECT {table.select} FROM {table.name} WHERE tenant_id = caller.tenant"  # noqa: S608 (our names)

    async def find(self, tenants: Tenants, tenant: str, row_id: UUID) -> R | None:
        """The row with this id; None if there is none."""
        rows = await tenants.fetch(tenant, f"{self._select} AND {self.order[1]} = $2", row_id)
        return self.table.read(rows[0]) if rows else None

    async def read(self, tenants: Tenants, tenant: str, selection: Selection) -> list[R]:
        """The rows of a page, plus one more row if there is a next page."""
        moment, row_id = self.order
        conditions, values = _conditions(moment, selection)
        if selection.after is not None:
            conditions.append(f"({moment}, {row_id}) < (${len(values) + 2}, ${len(values) + 3})")
            values += selection.after
        where = "".join(f" AND {condition}" for condition in conditions)
        # The limit is a literal: with a parameter, PostgreSQL would plan the statement at every execution.
        order = f" ORDER BY {moment} DESC, {row_id} DESC LIMIT {selection.limit + 1:d}"
        return [self.table.read(row) for row in await tenants.fetch(tenant, self._select + where + order, *values)]


def _conditions(moment: str, selection: Selection) -> tuple[list[str], list[Any]]:
    """The conditions of a selection, with parameters from `$2` on, and their values."""
    conditions, values = list[str](), list[Any]()
    for column, accepted in selection.equal.items():
        if len(accepted) == 1:  # `=` instead of ANY, so that an index can return the rows in order
            values.append(accepted[0])
            conditions.append(f"{column} = ${len(values) + 1}")
        elif accepted:
            values.append(accepted)
            conditions.append(f"{column} = ANY(${len(values) + 1})")
    bounds = {(moment, ">="): selection.since, (moment, "<"): selection.until, **selection.compared}
    for (column, operator), bound in bounds.items():
        if bound is not None:
            values.append(bound)
            conditions.append(f"{column} {operator} ${len(values) + 1}")
    return conditions, values
