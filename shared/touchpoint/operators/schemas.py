"""What several of the operators' routes take and answer."""

from collections.abc import Sequence
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from touchpoint.contracts.base import Identifier
from touchpoint.contracts.quick import NO_NUL
from touchpoint.http.errors import Problem

T = TypeVar("T")
L = TypeVar("L", bound="Listed")

Consumer = Annotated[Identifier, Field(description="a consumer, named as its service", examples=["feedback-svc"])]
Reason = Annotated[
    str,
    StringConstraints(min_length=1, max_length=500, pattern=NO_NUL),
    Field(description="why; kept in the trail", examples=["mended in 0.4.1, OPS-77"]),
]
Rate = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
PartitionNumber = Annotated[int, Field(ge=0, lt=2**31)]


class Strict(BaseModel):
    """A name that does not exist is refused: a misspelt filter would match everything."""

    model_config = ConfigDict(extra="forbid")


class Unanswered(BaseModel):
    """A service whose part is missing, and why."""

    service: str = Field(examples=["metrics-svc"])
    problem: Problem


class Entries(BaseModel, Generic[T]):
    """Part of a list, of all services asked."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    items: list[T]
    next_cursor: str | None = Field(None, description="for the next page; null on the last one")
    unanswered: list[Unanswered] = Field([], description="services that gave no answer: their items are missing here")


class PageQuery(Strict):
    """Which part of a list."""

    limit: int = Field(50, ge=1, le=200, description="items a page")
    cursor: str | None = Field(None, max_length=500, description="`next_cursor` of the page before")


class Listed(BaseModel):
    """What stands in a list that has pages."""

    cursor: str = Field(description="its place in its list: given as `cursor`, the list goes on behind it")


def page(read: Sequence[L], limit: int) -> Entries[L]:
    """A page of what was read, which is one more than it takes if there is a next."""
    shown = list(read[:limit])
    return Entries(items=shown, next_cursor=shown[-1].cursor if len(read) > limit else None)
