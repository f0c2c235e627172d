"""Pages of a tenant's rows, newest first: stable while rows come in, and as fast on page 10,000 as on the first."""

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
    """Which rows of a list, and which part of them."""

    limit: int
    after: tuple[datetime, UUID] | None = None
    """The time and the id of the last row of the page before; None for the first page."""
    equal: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """By column: the values of which it must have one; an empty list excludes nothing."""
    compared: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    """By column and operator (`>=`, `<=`, `<`): the bound; None excludes nothing."""
    since: datetime | None = None
    """Rows of this time or later; `until` excludes its own."""
    until: datetime | None = None

    def where(self, **equal: Any) -> "Selection":
        """The same of rows whose columns have these values."""
        return replace(self, equal={**self.equal, **{name: [value] for name, value in equal.items()}})


class Listing(Generic[R]):
    """A tenant's rows of a table in the order of two columns: a time, and an id for rows of the same time."""

    def __init__(self, table: Table[R], moment: str, row_id: str) -> None:
        self._table = table
        self.order = moment, row_id
        self._select = f"SELECT {table.select} FROM {table.name} WHERE tenant_id = caller.tenant"  # noqa: S608 (our names)

    async def find(self, tenants: Tenants, tenant: str, row_id: UUID) -> R | None:
        """The row of this id."""
        rows = await tenants.fetch(tenant, f"{self._select} AND {self.order[1]} = $2", row_id)
        return self._table.read(rows[0]) if rows else None

    async def read(self, tenants: Tenants, tenant: str, selection: Selection) -> list[R]:
        """The rows of a page, and one more where there is a next page."""
        moment, row_id = self.order
        conditions, values = _conditions(moment, selection)
        if selection.after is not None:
            conditions.append(f"({moment}, {row_id}) < (${len(values) + 2}, ${len(values) + 3})")
            values += selection.after
        where = "".join(f" AND {condition}" for condition in conditions)
        # The limit is written out: for one given as a parameter PostgreSQL plans each time anew.
        order = f" ORDER BY {moment} DESC, {row_id} DESC LIMIT {selection.limit + 1:d}"
        return [self._table.read(row) for row in await tenants.fetch(tenant, self._select + where + order, *values)]


def _conditions(moment: str, selection: Selection) -> tuple[list[str], list[Any]]:
    """The conditions of a selection, with parameters from `$2` on, and their values."""
    conditions, values = list[str](), list[Any]()
    for column, accepted in selection.equal.items():
        if len(accepted) == 1:  # compared by itself: an index then gives the rows in their order
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
