"""Cursor pages: stable while rows come in, and as fast on page 10,000 as on the first."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Generic, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, Field

from touchpoint.contracts.base import EARLIEST, LATEST
from touchpoint.http.errors import FieldError, ProblemError

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=200, description="items a page")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before")]


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


def page(rows: Sequence[T], limit: int, position: tuple[str, str]) -> Page[T]:
    """A page from `limit + 1` rows read; `position` names the attributes that order them (time, id)."""
    more = len(rows) > limit
    shown = list(rows[:limit])
    after = encode(getattr(shown[-1], position[0]), getattr(shown[-1], position[1])) if more else None
    return Page(items=shown, next_cursor=after)
