"""Lists over HTTP: the query parameters of a page, its cursor, and the response."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime
from itertools import accumulate
from operator import attrgetter
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from starlette.responses import Response

from touchpoint.base import times
from touchpoint.base.times import EARLIEST, LATEST
from touchpoint.contracts.base import read_time, refusal
from touchpoint.db.listing import Selection
from touchpoint.http.errors import FieldError, ProblemError

T = TypeVar("T")
R = TypeVar("R")
A = TypeVar("A")

Several = Annotated[list[T], Field(max_length=20)]
"""Values of a filter, any of which may match; the parameter is repeated for each value."""

_BLANK_FOR_PLUS = re.compile(r" (?=[0-9]{2}:[0-9]{2}$)")

PAGE_CHARACTERS = 1_000_000
"""Characters of long texts in one page, at most; further rows are on the next page."""


def _in_a_query(value: Any, info: ValidationInfo) -> Any:
    """Parse a time in a query, where an unescaped + of the offset is decoded as a blank: change it back."""
    return read_time(_BLANK_FOR_PLUS.sub("+", value) if isinstance(value, str) else value, info)


def _within_reach(moment: datetime) -> datetime:
    if not EARLIEST <= moment <= LATEST:
        raise refusal("time_out_of_reach", times.YEARS)
    return moment


Bound = Annotated[AwareDatetime, BeforeValidator(_in_a_query), AfterValidator(_within_reach)]
"""A time to filter by, within the years allowed for events."""


class PageQuery(BaseModel):
    """The query of a page. Unknown parameters are refused, as a misspelt filter would match everything."""

    model_config = ConfigDict(extra="forbid")

    since: Bound | None = Field(None, alias="from", description="items of this time or later")
    until: Bound | None = Field(None, alias="to", description="items before this time")
    recorded_from: Bound | None = Field(
        None,
        description="items accepted at this time or later; use it to poll, as `from` would miss items that arrive late",
    )
    recorded_to: Bound | None = Field(None, description="items accepted before this time")
    limit: int = Field(50, ge=1, le=200, description="items per page, at most; fewer if texts are very long")
    cursor: str | None = Field(None, max_length=200, description="`next_cursor` of the previous page")

    def bounds(self) -> dict[tuple[str, str], Any]:
        """The bounds of columns, by column and operator; None is no bound. Subclasses add their own."""
        return {("recorded_at", ">="): self.recorded_from, ("recorded_at", "<"): self.recorded_to}

    def selection(self) -> Selection:
        """The rows to select: a list parameter of a subclass filters the column of the same name.

        Raises ProblemError 422 on an invalid cursor.
        """
        own = type(self).model_fields.keys() - PageQuery.model_fields.keys()
        given = {name: getattr(self, name) for name in own}
        return Selection(
            limit=self.limit,
            after=decode(self.cursor),
            equal={name: values for name, values in given.items() if isinstance(values, list)},
            compared=self.bounds(),
            since=self.since,
            until=self.until,
        )


class Page(BaseModel, Generic[T]):
    """A page of a list, newest first. `next_cursor` is null on the last page."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    items: list[T]
    next_cursor: str | None = Field(None, examples=["WyIyMDI2LTExLTIyVDA5OjMwOjAwKzAwOjAwIiwgIuKApiJd"])


def encode(moment: datetime, place: UUID | str) -> str:
    """The cursor after a row, in a list ordered by time and then by `place` (printable ASCII)."""
    return base64.urlsafe_b64encode(f'["{moment.isoformat()}", "{place}"]'.encode()).decode().rstrip("=")


def decode(cursor: str | None) -> tuple[datetime, UUID] | None:
    """The time and id of the last row of the previous page; None for the first page.

    Raises ProblemError 422 on an invalid cursor.
    """
    if cursor is None:
        return None
    moment, place = read(cursor)
    try:
        return moment, UUID(place)
    except ValueError:
        raise _unreadable() from None


def read(cursor: str) -> tuple[datetime, str]:
    """Decode a cursor of `encode` to its time and place. Raises ProblemError 422 on an invalid cursor."""
    try:
        moment, place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        time = datetime.fromisoformat(moment)
        if not EARLIEST <= time < LATEST:
            raise ValueError("outside the years of events; PostgreSQL may not be able to store it")
        if not (place.isascii() and place.isprintable()):
            raise ValueError("not printable ASCII, so not a cursor of `encode`")
    except (ValueError, TypeError, AttributeError, binascii.Error):
        raise _unreadable() from None
    return time, place


def _unreadable() -> ProblemError:
    wrong = FieldError(
        field="cursor", reason="not a cursor of this API: use next_cursor of the previous page unchanged"
    )
    return ProblemError(422, "validation-failed", "The cursor cannot be read.", errors=[wrong])


def answers(answer: type[A], **made: Callable[[Any], Any]) -> Callable[[Any], A]:
    """A function that converts a row to `answer`, a dataclass: each field is the row's attribute of the same name.

    `made`: by field, the function that computes its value from the row instead.
    """
    names = [field.name for field in fields(answer)]  # type: ignore[arg-type]  # a dataclass
    same = attrgetter(*(name for name in names if name not in made))
    places = [(place, made[name]) for place, name in enumerate(names) if name in made]

    def make(row: Any) -> A:
        values = list(same(row))
        for place, value_of in places:
            values.insert(place, value_of(row))
        return answer(*values)

    return make


def page(
    rows: Sequence[R],
    limit: int,
    order: tuple[str, str],
    answer: Callable[[R], Any],
    *,
    text: str | None = None,
) -> Response:
    """The response with a `Page` of up to `limit + 1` rows read; `order` names the attributes they are ordered by.

    `answer` converts a row to an object that msgspec encodes, such as a dataclass, as pydantic takes ten times as long.
    `text` names an attribute that may be long: a page has at most PAGE_CHARACTERS of it, but at least one row.
    """
    shown = rows[: _fitting(rows[:limit], text) if text else limit]
    more = len(rows) > len(shown)
    after = encode(getattr(shown[-1], order[0]), getattr(shown[-1], order[1])) if more else None
    content = {"items": [answer(row) for row in shown], "next_cursor": after}
    return Response(msgspec.json.encode(content), media_type="application/json")


def _fitting(rows: Sequence[Any], text: str) -> int:
    """The number of rows that fit into one page: at least one."""
    sizes = accumulate(len(getattr(row, text) or "") for row in rows)
    return next((number for number, size in enumerate(sizes) if number and size > PAGE_CHARACTERS), len(rows))
