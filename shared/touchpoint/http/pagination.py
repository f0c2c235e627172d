"""Lists over HTTP: the parameters of a page, its cursor, and the answer."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
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

    def selection(self, compared: Mapping[tuple[str, str], Any] | None = None) -> Selection:
        """The rows asked for. A filter with several values is a column's of the same name.

        `compared`: further bounds, by column and operator. Raises ProblemError 422 on a cursor that is not ours.
        """
        own = type(self).model_fields.keys() - PageQuery.model_fields.keys()
        given = {name: getattr(self, name) for name in own}
        recorded = {("recorded_at", ">="): self.recorded_from, ("recorded_at", "<"): self.recorded_to}
        return Selection(
            limit=self.limit,
            after=decode(self.cursor),
            equal={name: values for name, values in given.items() if isinstance(values, list)},
            compared={**recorded, **(compared or {})},
            since=self.since,
            until=self.until,
        )


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


def answers(answer: type[A], **made: Callable[[Any], Any]) -> Callable[[Any], A]:
    """A function that makes an answer, a dataclass, of a row: each field of the row's attribute of the same name.

    `made`: how the fields are made that the row does not have under their names.
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
    """The answer, a `Page`, of `limit + 1` rows read; `order` names the attributes that order them (time, id).

    `answer` makes of a row what msgspec encodes, such as a dataclass: pydantic's models would take ten times as long.
    `text` names the attribute that may be long: a page ends before it has more than PAGE_CHARACTERS of it.
    """
    shown = rows[: _fitting(rows[:limit], text) if text else limit]
    more = len(rows) > len(shown)
    after = encode(getattr(shown[-1], order[0]), getattr(shown[-1], order[1])) if more else None
    content = {"items": [answer(row) for row in shown], "next_cursor": after}
    return Response(msgspec.json.encode(content), media_type="application/json")


def _fitting(rows: Sequence[Any], text: str) -> int:
    """How many of the rows one answer takes, but one always."""
    sizes = accumulate(len(getattr(row, text) or "") for row in rows)
    return next((number for number, size in enumerate(sizes) if number and size > PAGE_CHARACTERS), len(rows))
