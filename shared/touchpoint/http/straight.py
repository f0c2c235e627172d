"""A fast path for frequent routes: a dictionary lookup, as the layers of FastAPI take longer than the work itself."""

from collections.abc import Awaitable, Callable
from typing import Any, get_args, get_type_hints

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from touchpoint.http import errors
from touchpoint.http.identity import current
from touchpoint.http.leaving import UntilClientLeaves
from touchpoint.http.parameters import lists, refuse_repeated
from touchpoint.http.timing import Timed

Endpoint = Callable[[Any, Any, Any], Awaitable[Response]]


class Straight(FastAPI):
    """A FastAPI application with straight routes, which are matched by exact method and path before all others."""

    def __init__(self, **options: Any) -> None:
        super().__init__(openapi_url=None, redirect_slashes=False, **options)
        self._straight = dict[tuple[str, str], ASGIApp]()
        self._outermost: ASGIApp = self._answer

    def answer(self, method: str, path: str, app: ASGIApp) -> None:
        """Route requests for exactly this path to `app`, which must handle its expected errors itself."""
        self._straight[method, path] = ServerErrorMiddleware(app, errors.on_bug)

    def answer_list(self, path: str, endpoint: Endpoint) -> None:
        """Route GET on exactly this path to the endpoint that FastAPI has for it, called by `_List`."""
        handlers = {kind: handler for kind, handler in self.exception_handlers.items() if kind is not Exception}
        self.answer("GET", path, Timed(UntilClientLeaves(ExceptionMiddleware(_List(self, endpoint), handlers)), path))

    def surround(self, middleware: Callable[..., ASGIApp], **options: Any) -> None:
        """Add a middleware to all routes, including the straight ones, which `add_middleware` does not reach."""
        self._outermost = middleware(self._outermost, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        await self._outermost(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        straight = self._straight.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        await (straight or super().__call__)(scope, receive, send)


class _List:
    """Calls an endpoint with the arguments that FastAPI would inject for its three parameters.

    They are `caller: Annotated[Caller, Depends(allowed(scope))]`, `rows: Rows` and `query: Annotated[Model, Query()]`.
    """

    def __init__(self, app: FastAPI, endpoint: Endpoint) -> None:
        hints = get_type_hints(endpoint, include_extras=True)
        self._app = app
        self._allow = get_args(hints["caller"])[1].dependency
        self._query: type[BaseModel] = get_args(hints["query"])[0]
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request({**scope, "app": self._app})
        caller = await self._allow(await current(request))
        given = request.query_params
        refuse_repeated(given, (self._query,))
        several = {name: given.getlist(name) for name in lists(self._query) if name in given}
        try:
            query = self._query.model_validate(dict(given) | several)
        except ValidationError as error:
            raise RequestValidationError([e | {"loc": ("query", *e["loc"])} for e in error.errors()]) from None
        response = await self._endpoint(caller, self._app.state.tenants, query)
        await response(scope, receive, send)
