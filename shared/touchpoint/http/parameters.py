"""Refuse query parameters that are given several times although the route accepts one value."""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import get_origin

from fastapi import Request
from pydantic import BaseModel
from starlette.datastructures import QueryParams

from touchpoint.http.errors import FieldError, ProblemError


@lru_cache
def lists(model: type[BaseModel]) -> frozenset[str]:
    """The parameters of a query model that may be given several times."""
    return frozenset(
        field.alias or name for name, field in model.model_fields.items() if get_origin(field.annotation) is list
    )


def refuse_repeated(given: QueryParams, models: Iterable[type[BaseModel]]) -> None:
    """Raise ProblemError 422 if a parameter that is not a list is repeated, as only one value would be used."""
    repeatable = frozenset[str]().union(*map(lists, models))
    times = Counter(name for name, _ in given.multi_items())
    errors = [
        FieldError(field=name[:200], reason=f"is given {count} times: give it once")
        for name, count in times.items()
        if count > 1 and name not in repeatable
    ]
    if errors:
        raise ProblemError(422, "validation-failed", "The request is not valid; see errors.", errors=errors)


async def once_each(request: Request) -> None:
    """FastAPI dependency: `refuse_repeated` for the query models of the route."""
    if request.query_params:
        models = (parameter.field_info.annotation for parameter in request.scope["route"].dependant.query_params)
        refuse_repeated(request.query_params, models)
