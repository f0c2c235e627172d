"""Errors over HTTP as RFC 9457 problem details, the same in the gateway and in every service."""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from touchpoint.base import telemetry
from touchpoint.base.errors import ConflictError, NotFoundError, UnreachableError, UsageError
from touchpoint.base.sqlstates import QUERY_CANCELED, READ_ONLY
from touchpoint.contracts.reasons import reason
from touchpoint.db.engine import is_transient, sqlstate

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 20
"""Errors listed in one problem, at most; further ones are omitted."""

_FROM_THE_DATABASE = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


_USAGE = {
    UnreachableError: (503, "unreachable"),
    NotFoundError: (404, "not-found"),
    ConflictError: (409, "conflict"),
    UsageError: (422, "not-possible"),
}
"""HTTP status and problem code by class of error; the first matching class counts."""


class FieldError(BaseModel):
    """An error in the input: the field, and what would be valid."""

    field: str = Field(examples=["score.value"])
    reason: str = Field(examples=["must be 10 or less"])


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(examples=["urn:touchpoint:problem:validation-failed"])
    title: str
    status: int
    detail: str | None = None
    errors: list[FieldError] | None = None


class ProblemError(Exception):
    """An exception that becomes the answer to the request. `code` is the stable name for clients to branch on."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(
            type=f"urn:touchpoint:problem:{code}",
            title=code.replace("-", " ").capitalize(),
            status=status,
            detail=detail,
            errors=list(errors[:MAX_ERRORS]) if errors else None,
        )
        self.headers = dict(headers or {})


def response(error: ProblemError) -> JSONResponse:
    """The HTTP response for a problem."""
    body = error.problem.model_dump(exclude_none=True)
    return JSONResponse(body, error.problem.status, error.headers, media_type=MEDIA_TYPE)


def field_errors(errors: Sequence[Any], skip: int = 0) -> list[FieldError]:
    """Convert the first pydantic errors; `skip` drops leading parts of the path, such as FastAPI's "body", "query"."""
    return [
        FieldError(field=".".join(map(str, error["loc"][skip:]))[:200] or "body", reason=reason(error))
        for error in errors[:MAX_ERRORS]
    ]


def of_database(error: Exception) -> ProblemError | None:
    """The problem for an error that the database has caused; None for other errors."""
    if isinstance(error, NoConnectionError):
        detail = "Too many requests at once: all connections to the database are in use."
        return ProblemError(503, "database-busy", detail, headers={"Retry-After": "1"})
    if sqlstate(error) == QUERY_CANCELED:
        detail = (
            "The query took too long and was ended. Narrow it: a shorter range by from and to, or a filter that fewer "
            "rows match, such as one customer."
        )
        return ProblemError(504, "query-too-slow", detail)
    if sqlstate(error) == READ_ONLY:
        detail = "The database is read-only at the moment; nothing was changed. Queries work."
        return ProblemError(503, "database-read-only", detail, headers={"Retry-After": "5"})
    if is_transient(error):
        detail = "The database cannot be used at the moment."
        return ProblemError(503, "database-unavailable", detail, headers={"Retry-After": "5"})
    return None


def install(app: FastAPI) -> None:
    """Convert every error of this application to a problem, including FastAPI's own."""

    @app.exception_handler(ProblemError)
    async def on_problem(_: Request, error: ProblemError) -> JSONResponse:
        return response(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = field_errors(error.errors(), skip=1)
        return response(ProblemError(422, "validation-failed", "The request is not valid; see errors.", errors=errors))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        code = {400: "malformed-json", 404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "http-error")
        headers = dict(error.headers or {})
        if error.status_code == 405 and (methods := _methods(request)):
            headers["Allow"] = ", ".join(sorted(methods))
        return response(ProblemError(error.status_code, code, str(error.detail), headers=headers))

    async def on_database(_: Request, error: Exception) -> JSONResponse:
        problem = of_database(error)
        if problem is None:
            raise error
        telemetry.log().warning(telemetry.DATABASE_FAILED, problem=problem.problem.type, error=type(error).__name__)
        return response(problem)

    for kind in _FROM_THE_DATABASE:
        app.add_exception_handler(kind, on_database)

    app.add_exception_handler(UsageError, _on_usage)
    app.add_exception_handler(Exception, on_bug)


def _methods(request: Request) -> set[str]:
    """All methods of the request's path; Starlette itself lists only those of the first matching route."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is Match.PARTIAL]
    return {method for route in routes for method in getattr(route, "methods", None) or ()}


async def _on_usage(_: Request, error: Exception) -> JSONResponse:
    """The answer if an operator's request cannot be carried out."""
    status, code = next(answer for kind, answer in _USAGE.items() if isinstance(error, kind))
    headers = {"Retry-After": "5"} if status == 503 else None
    return response(ProblemError(status, code, str(error), headers=headers))


async def on_bug(_: Request, __: Exception) -> JSONResponse:
    """The answer to an unexpected error, which Starlette's middleware then raises again so that it is logged."""
    return response(ProblemError(500, "internal-error", "Something went wrong on our side; it has been logged."))
