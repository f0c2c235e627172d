"""Cursor pages: stable while rows come in, and as fast on page 10,000 as on the first."""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import asyncpg
import msgspec
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from starlette.responses import Response

from touchpoint.base import times
from touchpoint.base.times import EARLIEST, LATEST
from touchpoint.contracts.base import read_time, refusal
from touchpoint.db.tenants import Tenants
from touchpoint.http.errors import FieldError, ProblemError

T = TypeVar("T")

Several = Annotated[list[T], Field(max_length=20)]
"""Values of a filter, of which one must match; the parameter is repeated for each."""

_BLANK_FOR_PLUS = re.compile(r" (?=[0-9]{2}:[0-9]{2}$)")

PAGE_CHARACTERS = 1_000_000
"""Of long texts in one answer; what does not fit is on the next page."""


def _in_a_query(value: Any, info: ValidationInfo) -> Any:
    """In a query a + that is not written as %2B means a blank. In a time no blank has another meaning."""
    return read_time(_BLANK_FOR_PLUS.sub("+", value) if isinstance(value, str) else value, info)


def _within_reach(moment: datetime) -> datetime:
    if not EARLIEST <= moment <= LATEST:
        raise refusal("time_out_of_reach", times.YEARS)
    return moment


Bound = Annotated[AwareDatetime, BeforeValidator(_in_a_query), AfterValidator(_within_reach)]
"""A time to filter by, within the years that events have."""


class PageQuery(BaseModel):
    """Which part of a list. A parameter that does not exist is refused: a misspelt filter would match everything."""

    model_config = ConfigDict(extra="forbid")

    since: Bound | None = Field(None, alias="from", description="of this time or later")
    until: Bound | None = Field(None, alias="to", description="before this time")
    recorded_from: Bound | None = Field(
        None, description="accepted at this time or later: for polling, where `from` would miss what arrives late"
    )
    recorded_to: Bound | None = Field(None, description="accepted before this time")
    limit: int = Field(50, ge=1, le=200, description="items a page; fewer where texts are very long")
    cursor: str | None = Field(None, max_length=200, description="`next_cursor` of the page before")


class Page(BaseModel, Generic[T]):
    """Part of a list, newest first. `next_cursor` is null on the last page."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    items: list[T]
    next_cursor: str | None = Field(None, examples=["WyIyMDI2LTExLTIyVDA5OjMwOjAwKzAwOjAwIiwgIuKApiJd"])


def encode(moment: datetime, place: UUID | str) -> str:
    """The cursor that stands after this row in an order by time and, of one time, by `place` (printable ASCII)."""
    return base64.urlsafe_b64encode(f'["{moment.isoformat()}", "{place}"]'.encode()).decode().rstrip("=")


def decode(cursor: str | None) -> tuple[datetime, UUID] | None:
    """Where a page starts, in an order by (time, id); None for the first.

    Raises ProblemError 422 on a cursor that is not ours.
    """
    if cursor is None:
        return None
    moment, place = read(cursor)
    try:
        return moment, UUID(place)
    except ValueError:
        raise _unreadable() from None


def read(cursor: str) -> tuple[datetime, str]:
    """What `encode` was given, as text. Raises ProblemError 422 on a cursor that is not ours."""
    try:
        moment, place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        found = datetime.fromisoformat(moment)
        if not EARLIEST <= found < LATEST:
            raise ValueError("no event is of that time, and PostgreSQL may not be able to hold it")
        if not (place.isascii() and place.isprintable()):
            raise ValueError("no place in any list")
    except (ValueError, TypeError, AttributeError, binascii.Error):
        raise _unreadable() from None
    return found, place


def _unreadable() -> ProblemError:
    wrong = FieldError(field="cursor", reason="not a cursor of this API: use next_cursor as it was answered")
    return ProblemError(422, "validation-failed", "The cursor cannot be read.", errors=[wrong])


class Listing:
    """A tenant's rows of a table, newest first: what a page shows of them, and the two columns that order them.

    The table has a column `recorded_at`: when the gateway accepted what the row is about.
    """

    def __init__(self, table: str, columns: Sequence[str], moment: str, row_id: str) -> None:
        self.select = f"SELECT {', '.join(columns)} FROM {table} WHERE tenant_id = caller.tenant"  # noqa: S608 (our names)
        self._moment = moment
        self._row_id = row_id

    async def read(
        self, tenants: Tenants, tenant: str, query: PageQuery, conditions: Mapping[str, Any]
    ) -> list[asyncpg.Record]:
        """The page of what meets all conditions, and one row more: it tells whether there is a next.

        A condition is SQL with a place for its value, such as `kind = {}`; without one (None) it does not count.
        Raises ProblemError 422 on a cursor that is not ours.
        """
        said = {condition: value for condition, value in conditions.items() if value is not None}
        if query.since is not None:
            said[f"{self._moment} >= {{}}"] = query.since
        if query.until is not None:
            said[f"{self._moment} < {{}}"] = query.until
        if query.recorded_from is not None:
            said["recorded_at >= {}"] = query.recorded_from
        if query.recorded_to is not None:
            said["recorded_at < {}"] = query.recorded_to
        where = "".join(" AND " + condition.format(f"${number}") for number, condition in enumerate(said, 2))
        values = [*said.values()]
        if (after := decode(query.cursor)) is not None:
            where += f" AND ({self._moment}, {self._row_id}) < (${len(values) + 2}, ${len(values) + 3})"
            values += after
        # The limit is written out: PostgreSQL plans anew each time for one it does not know.
        order = f" ORDER BY {self._moment} DESC, {self._row_id} DESC LIMIT {query.limit + 1:d}"
        return await tenants.fetch(tenant, self.select + where + order, *values)


def exactly(query: PageQuery, names: Sequence[str]) -> dict[str, Any]:
    """Conditions for `Listing.read`: columns that have one of the values of the query's filter of the same name.

    One value is compared by itself, which lets an index give the rows in their order.
    """
    conditions = dict[str, Any]()
    for name in names:
        values: list[Any] = getattr(query, name)
        if len(values) == 1:
            conditions[f"{name} = {{}}"] = values[0]
        elif values:
            conditions[f"{name} = ANY({{}})"] = values
    return conditions


def page(rows: Sequence[Any], limit: int, position: tuple[str, str], *, text: str | None = None) -> Response:
    """The answer, a `Page`, from `limit + 1` rows read; `position` names the attributes that order them (time, id).

    `text` names the attribute that may be long: a page ends before it has more than PAGE_CHARACTERS of it. Rows are
    what msgspec encodes, such as dataclasses: as pydantic's models they would take ten times as long.
    """
    shown = rows[: _fitting(rows[:limit], text) if text else limit]
    more = len(rows) > len(shown)
    after = encode(getattr(shown[-1], position[0]), getattr(shown[-1], position[1])) if more else None
    return Response(msgspec.json.encode({"items": shown, "next_cursor": after}), media_type="application/json")


def _fitting(rows: Sequence[Any], text: str) -> int:
    """How many of the rows one answer takes, but one always."""
    sizes = accumulate(len(getattr(row, text) or "") for row in rows)
    return next((number for number, size in enumerate(sizes) if number and size > PAGE_CHARACTERS), len(rows))
