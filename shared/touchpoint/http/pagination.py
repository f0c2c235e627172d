"""Cursor pages: stable while rows come in, and as fast on page 10,000 as on the first."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from typing import Annotated, Generic, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Select, SQLColumnExpression, tuple_

from touchpoint.contracts.base import EARLIEST, LATEST, WRITTEN_OUT
from touchpoint.http.errors import FieldError, ProblemError

T = TypeVar("T")
Row = TypeVar("Row")

PAGE_CHARACTERS = 1_000_000
"""Of long texts in one answer; what does not fit is on the next page."""

Bound = Annotated[AwareDatetime, Field(ge=EARLIEST, le=LATEST), WRITTEN_OUT]
"""A time to filter by, within the years that events have."""


class PageQuery(BaseModel):
    """Which part of a list. A parameter that does not exist is refused: a misspelt filter would match everything."""

    model_config = ConfigDict(extra="forbid")

    since: Bound | None = Field(None, alias="from", description="of this time or later")
    until: Bound | None = Field(None, alias="to", description="before this time")
    limit: int = Field(50, ge=1, le=200, description="items a page; fewer where texts are very long")
    cursor: str | None = Field(None, max_length=200, description="`next_cursor` of the page before")


class Page(BaseModel, Generic[T]):
    """Part of a list, newest first. `next_cursor` is null on the last page."""

    items: list[T]
    next_cursor: str | None = Field(None, examples=["WyIyMDI2LTExLTIyVDA5OjMwOjAwKzAwOjAwIiwgIuKApiJd"])


def encode(moment: datetime, row_id: UUID) -> str:
    """The cursor that stands after this row in an order by (time, id)."""
    return base64.urlsafe_b64encode(json.dumps([moment.isoformat(), str(row_id)]).encode()).decode().rstrip("=")


def decode(cursor: str | None) -> tuple[datetime, UUID] | None:
    """Where a page starts; None for the first. Raises ProblemError 422 on a cursor that is not ours."""
    if cursor is None:
        return None
    try:
        moment, row_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        found = datetime.fromisoformat(moment), UUID(row_id)
        if not EARLIEST <= found[0] < LATEST:
            raise ValueError("no event is of that time, and PostgreSQL may not be able to hold it")
    except (ValueError, TypeError, AttributeError, binascii.Error):
        wrong = FieldError(field="cursor", reason="not a cursor of this API: use next_cursor as it was answered")
        raise ProblemError(422, "validation-failed", "The cursor cannot be read.", errors=[wrong]) from None
    return found


def newest(
    wanted: Select[Row], moment: SQLColumnExpression[datetime], row_id: SQLColumnExpression[UUID], query: PageQuery
) -> Select[Row]:
    """The page of a selection in the order (moment, id), newest first, and one row more: it tells if there is a next.

    Raises ProblemError 422 on a cursor that is not ours.
    """
    if query.since is not None:
        wanted = wanted.where(moment >= query.since)
    if query.until is not None:
        wanted = wanted.where(moment < query.until)
    if (after := decode(query.cursor)) is not None:
        wanted = wanted.where(tuple_(moment, row_id) < after)
    return wanted.order_by(moment.desc(), row_id.desc()).limit(query.limit + 1)


def page(rows: Sequence[T], limit: int, position: tuple[str, str], *, text: str | None = None) -> Page[T]:
    """A page from `limit + 1` rows read; `position` names the attributes that order them (time, id).

    `text` names the attribute that may be long: a page ends before it has more than PAGE_CHARACTERS of it.
    """
    shown = rows[: _fitting(rows[:limit], text) if text else limit]
    more = len(rows) > len(shown)
    after = encode(getattr(shown[-1], position[0]), getattr(shown[-1], position[1])) if more else None
    return Page(items=list(shown), next_cursor=after)


def _fitting(rows: Sequence[T], text: str) -> int:
    """How many of the rows one answer takes, but one always."""
    sizes = accumulate(len(getattr(row, text) or "") for row in rows)
    return next((number for number, size in enumerate(sizes) if number and size > PAGE_CHARACTERS), len(rows))
