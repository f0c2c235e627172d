"""Request and response schemas that several of the operators' routes share."""

from collections.abc import Sequence
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from touchpoint.contracts.base import Identifier
from touchpoint.contracts.quick import NO_NUL
from touchpoint.http.errors import Problem

T = TypeVar("T")
L = TypeVar("L", bound="Listed")

Consumer = Annotated[
    Identifier, Field(description="name of the consumer, which is that of its service", examples=["feedback-svc"])
]
Reason = Annotated[
    str,
    StringConstraints(min_length=1, max_length=500, pattern=NO_NUL),
    Field(description="why you do this; stored in the audit trail", examples=["fixed in 0.4.1, OPS-77"]),
]
Rate = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
PartitionNumber = Annotated[int, Field(ge=0, lt=2**31)]


class Strict(BaseModel):
    """Refuses unknown fields: a misspelt filter would otherwise be ignored and match everything."""

    model_config = ConfigDict(extra="forbid")


class Unanswered(BaseModel):
    """A service that did not answer, so that its part of the list is missing, and why."""

    service: str = Field(examples=["metrics-svc"])
    problem: Problem


class Entries(BaseModel, Generic[T]):
    """One page of a list, merged from the answers of all services."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    items: list[T]
    next_cursor: str | None = Field(None, description="cursor of the next page; null on the last page")
    unanswered: list[Unanswered] = Field([], description="services that did not answer: their items are missing")


class PageQuery(Strict):
    """Which page of a list, and its size."""

    limit: int = Field(50, ge=1, le=200, description="items per page")
    cursor: str | None = Field(None, max_length=500, description="`next_cursor` of the previous page")


class Listed(BaseModel):
    """An item of a list with pages."""

    cursor: str = Field(description="position in the list: passed as `cursor`, the page begins after this item")


def page(read: Sequence[L], limit: int) -> Entries[L]:
    """A page of the items read. The caller reads `limit + 1` items: an extra one means that there is a next page."""
    shown = list(read[:limit])
    return Entries(items=shown, next_cursor=shown[-1].cursor if len(read) > limit else None)
